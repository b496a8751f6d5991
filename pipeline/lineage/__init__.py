"""What a run was made from, and how often its result came back."""
