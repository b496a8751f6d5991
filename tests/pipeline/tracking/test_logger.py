import warnings

from pipeline.tracking import open_run, spool
from pipeline.tracking.run import runs_folder


def test_lightning_logs_to_the_spool(project, chosen):
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader

    from pipeline.tracking.logger import SpoolLogger

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch).square().mean()
            self.logger.log_metrics({"train/loss": float(loss)}, step=self.global_step + 1)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with open_run("train", chosen(drain_seconds=0.0), []) as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=SpoolLogger(run), enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), DataLoader(torch.ones(6, 2), batch_size=2))
    records = [record.content for record in spool.read(runs_folder() / run.key)]
    logged = [record for record in records if record["type"] == "metrics" and not record.get("measured")]
    points = [(record["step"], list(record["values"])) for record in logged]
    assert points == [(step, ["train/loss"]) for step in (1, 2, 3)]
