"""Secrets do not get into what is kept, in whatever form a message has them; other words stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.redaction import MASK, Redactor
from router.settings import Settings

HOSTILE = (
    "p@ss/w:rd?#1",
    "quote'and\"quote",
    "new\nline-secret",
    "größe-geheim",
    "%41%42%43",
    "a b c d e",
    "\\back\\slash",
)


def settings_with(secret: str, home: Path) -> Settings:
    from urllib.parse import quote

    return Settings(
        home=home,
        ledger_url=f"postgresql://me:{quote(secret, safe='')}@db.example/ledger",
        store_url=f"redis://me:{quote(secret, safe='')}@cache.example:6379/0?password={quote(secret, safe='')}",
        store_secrets=f"{secret},another-old-one",
    )


@pytest.mark.parametrize("secret", HOSTILE)
def test_no_form_of_a_secret_stays(secret: str, tmp_path: Path, folder: Path) -> None:
    import json
    from urllib.parse import quote

    settings = settings_with(secret, tmp_path)
    redact = Redactor.of(settings)
    told = (
        f"{secret} | {quote(secret, safe='')} | {secret!r} | {json.dumps(secret)} | another-old-one | "
        f"{settings.store_url} | {settings.ledger_url}"
    )

    kept = redact(told)

    for form in (secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1], "another-old-one"):
        assert form not in kept
    assert "cache.example" in kept


def test_the_credentials_of_any_url_are_masked() -> None:
    redact = Redactor()

    assert redact("rediss://user:pw@host:1/0 is away") == f"rediss://{MASK}@host:1/0 is away"
    assert redact("https://token@host/x?api_key=abc&y=1") == f"https://{MASK}@host/x?api_key={MASK}&y=1"
    assert redact("password=hunter2, retried") == f"password={MASK}, retried"
    assert redact("https://host/a@b") == "https://host/a@b"


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it() -> None:
    assert Redactor.of(Settings(store_secrets="abcdef,abcdefghi"))("abcdefghi abcdef") == f"{MASK} {MASK}"


@given(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=80).filter(
        lambda text: "@" not in text and "=" not in text and ":" not in text
    )
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Redactor(("a secret that is nowhere else",))(text) == text
