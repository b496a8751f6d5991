"""What must not leave this machine with a run: passwords in addresses, tokens, keys, files that are named like them."""

import re
from pathlib import PurePath

_HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?i)^\.env(\..*)?$|\.(pem|key|p12|pfx|jks|keystore|kdbx|gpg|asc|ovpn)$|^id_(rsa|dsa|ecdsa|ed25519)"
    r"|token(?!i[sz])|secret|credential|passw|^\.(netrc|pypirc|npmrc|htpasswd|git-credentials|pgpass)$|^kubeconfig"
)  # token, but not tokenizer

_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")

_TOKEN = re.compile(
    rb"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}|glpat-[\w-]{20,}"
    rb"|xox[abprs]-[\w-]{10,}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{32,}|AIza[\w-]{35}|dapi[0-9a-f]{32})\b"
    rb"|(?i:aws_secret_access_key[\"']?\s*[=:]\s*[\"']?)[A-Za-z0-9/+]{40}\b"
)

# In code an address is often put together from variables, and text with :// and @ in it need be no address: the user
# of one has a scheme before it and neither quotes nor braces in it.
_IN_CODE = re.compile(
    rb"([A-Za-z][A-Za-z0-9+.-]*://)"
    rb"(?!\*\*\*@)(?:[^/\s'\"`{}<>$:@\\]*:(?![0-9]+/)[^\s'\"`{}<>$\\]*|[^/\s'\"`{}<>$:@\\]+)@"
)
_QUERY_IN_CODE = re.compile(
    rb"(?i)([?&][^=&\s'\"]*(?:passw|pwd|token|secret|key)[^=&\s'\"]*=)(?!\*\*\*)[^&\s'\"`{}<>$\\]+"
)


def redacted(text: str) -> str:
    """A text without the users, passwords and tokens of the addresses in it."""
    text = re.sub(r"(://)[^/\s]\S*@", rf"\1{_HIDDEN}@", text)  # to the last @: people do not escape their passwords
    return re.sub(r"(?i)([?&][^=&\s]*(?:passw|pwd|token|secret|key)[^=&\s]*=)[^&\s]*", rf"\1{_HIDDEN}", text)


def redacted_source(content: bytes) -> bytes:
    """The same for source files and differences, in any encoding and line by line, so that a difference stays one."""
    hidden = _HIDDEN.encode()
    content = _IN_CODE.sub(rb"\1" + hidden + b"@", content)
    content = _QUERY_IN_CODE.sub(rb"\1" + hidden, content)
    return _TOKEN.sub(hidden, content)


def named_like_a_secret(path: str) -> bool:
    """Whether a file, or a folder that it is in, has a name as secrets have."""
    return any(_SECRET_NAME.search(part) for part in PurePath(path).parts)


def holds_private_key(content: bytes) -> bool:
    """Whether there is a private key in a file's content."""
    return _PRIVATE_KEY.search(content) is not None


def holds_token(content: bytes) -> bool:
    """Whether there is an access token, of the kinds that can be told by their form, in a file's content."""
    return _TOKEN.search(content) is not None
