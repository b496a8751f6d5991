"""What must not leave the machine, and what must not be mistaken for it."""

import pytest

from pipeline.lineage import redaction


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"uri: http://me:pass@host/x\n", b"uri: http://***@host/x\n"),
        (b"+url = 'postgresql://me:pa/ss@host:5432/db'", b"+url = 'postgresql://***@host:5432/db'"),
        (b"https://token123@host/repo.git", b"https://***@host/repo.git"),
        (b"http://host/x?a=1&password=abc&b=2", b"http://host/x?a=1&password=***&b=2"),
        (b"http://host/x?access_token=abc", b"http://host/x?access_token=***"),
        (b"AWS = 'AKIA0123456789ABCDEF'", b"AWS = '***'"),
        (b"ghp_" + b"a1" * 18, b"***"),
        (b"\xff\xfe http://me:pass@host \xff", b"\xff\xfe http://***@host \xff"),
    ],
)
def test_secrets_in_sources_are_hidden(content, expected):
    assert redaction.redacted_source(content) == expected
    assert redaction.redacted_source(expected) == expected  # hidden once is hidden


@pytest.mark.parametrize(
    "content",
    [
        b'uri = f"postgresql://{user}:{password}@{host}/db"',
        b"https://host:8080/package@1.2/index.js",
        b"https://host/package@1.2",
        b're.sub(r"(://)[^/\\s]\\S*@", ...)',
        b"sqlite:////tmp/mlflow.db and me@example.org",
        b"https://host/?page=2&key=$KEY",
        b"AKIA is no key, ghp_short neither",
    ],
)
def test_ordinary_source_stays_as_it_is(content):
    assert redaction.redacted_source(content) == content


def test_a_difference_keeps_its_lines():
    difference = b"@@ -1,2 +1,2 @@\n-uri: http://a:b@host\n+uri: http://c:d@host\n x\n"
    assert redaction.redacted_source(difference).count(b"\n") == difference.count(b"\n")


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "a/server.pem", "x.key", "id_rsa", "id_ed25519.pub", "my_token.txt", "secrets/a.yaml",
     "aws_credentials.json", "passwords.txt", ".netrc", "API_TOKENS.py"],
)  # fmt: skip
def test_names_of_secrets(name):
    assert redaction.named_like_a_secret(name)


@pytest.mark.parametrize(
    "name", ["tokenizer.py", "data/tokenise.py", "monkey.py", "keys.py", "environment.py", "a/env.md"]
)
def test_names_of_sources(name):
    assert not redaction.named_like_a_secret(name)


def test_keys_and_tokens_are_found_in_contents():
    assert redaction.holds_private_key(b"x\n-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    assert redaction.holds_private_key(b"-----BEGIN PRIVATE KEY-----")
    assert not redaction.holds_private_key(b"-----BEGIN PUBLIC KEY-----")
    assert redaction.holds_token(b"aws_secret_access_key = " + b"a" * 40)
    assert not redaction.holds_token(b"git commit " + b"0a" * 20)
