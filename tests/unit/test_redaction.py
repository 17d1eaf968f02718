"""What may be a secret is taken out of a URL, and out of what others say about the URL."""

from __future__ import annotations

import pytest

from worker.redaction import without_password, without_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://guest:secret@broker:5672/vhost", "amqp://***@broker:5672/vhost"),
        ("amqps://broker/vhost", "amqps://broker/vhost"),
        ("amqp://guest:a@b/secret@broker/", "amqp://***@broker/"),
        ("mongodb://u:p@a,b/?replicaSet=rs0", "mongodb://***@a,b/?replicaSet=rs0"),
        ("mongodb+srv://u:p@cluster/", "mongodb+srv://***@cluster/"),
    ],
)
def test_a_url_is_shown_without_its_user_and_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_what_a_library_says_of_a_url_is_shown_without_secrets() -> None:
    url = f"mongodb://user:%2F{SECRET}:b@host/?tlsCertificateKeyFilePassword=s3same"
    shown = without_secrets(f'no database "{SECRET}", /{SECRET}, s3same at host', url)
    assert shown == 'no database "***", /***, *** at host'
