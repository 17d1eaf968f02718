"""The settings: where they come from, what they default to, and how a bad one is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.errors import BadSettings
from worker.settings import environment_of, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def _empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in tuple(os.environ):
        if name.startswith("RESERVATION_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(**overrides: object) -> str:
    with pytest.raises(BadSettings) as refused:
        load_settings(**overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert settings.amqp_url == "amqp://guest:guest@localhost:5672/"
    assert settings.mongodb_uri == "mongodb://localhost:27017/?replicaSet=rs0"
    assert settings.mongodb_database == "reservations"
    assert settings.batch_size == 500
    assert settings.prefetch_count == 2000
    assert settings.log_level == "INFO"
    assert settings.drain_seconds == 25


def test_the_prefetch_follows_the_batch_size_unless_it_is_given() -> None:
    assert load_settings(batch_size=10).prefetch_count == 40
    assert load_settings(batch_size=10, prefetch=11).prefetch_count == 11
    assert load_settings(batch_size=10_000).prefetch_count == 40_000


def test_logs_are_text_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert load_settings().effective_log_format == "text"
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert load_settings().effective_log_format == "json"
    assert load_settings(log_format="text").effective_log_format == "text"


def test_each_setting_has_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {
        "AMQP_URL": "amqps://broker/seats",
        "MONGODB_URI": "mongodb+srv://cluster.example/",
        "MONGODB_DATABASE": "cinema",
        "BATCH_SIZE": "7",
        "PREFETCH": "70",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
        "DRAIN_SECONDS": "0.5",
    }
    for name, value in held.items():
        monkeypatch.setenv("RESERVATION_" + name, value)
    settings = load_settings()
    assert settings.model_dump() == {
        "amqp_url": "amqps://broker/seats",
        "mongodb_uri": "mongodb+srv://cluster.example/",
        "mongodb_database": "cinema",
        "batch_size": 7,
        "prefetch": 70,
        "log_level": "DEBUG",
        "log_format": "json",
        "drain_seconds": 0.5,
    }


def test_the_command_line_beats_environment_beats_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"RESERVATION_{name}=3" for name in ("BATCH_SIZE", "PREFETCH", "DRAIN_SECONDS")]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("RESERVATION_BATCH_SIZE", "2")
    monkeypatch.setenv("RESERVATION_DRAIN_SECONDS", "2")
    settings = load_settings(batch_size="1", prefetch=None)
    assert (settings.batch_size, settings.drain_seconds, settings.prefetch) == (1, 2, 3)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVATION_BATCH_SIZE", "")
    assert load_settings().batch_size == 500


def test_the_settings_reach_a_child_process() -> None:
    settings = load_settings(batch_size=7, drain_seconds=1.5)
    given = environment_of(settings)
    assert given["RESERVATION_BATCH_SIZE"] == "7"
    assert given["RESERVATION_DRAIN_SECONDS"] == "1.5"
    assert "RESERVATION_PREFETCH" not in given
    assert given["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("amqp_url", "http://broker/", "amqp://"),
        ("amqp_url", "amqp://", "amqp://"),
        ("amqp_url", "amqp://broker:99999/", "amqp://"),
        ("amqp_url", "broker", "amqp://"),
        ("mongodb_uri", "mongo://localhost", "mongodb://"),
        ("mongodb_uri", "mongodb://", "mongodb://"),
        ("mongodb_uri", "localhost:27017", "mongodb://"),
        ("mongodb_database", "a b", "characters"),
        ("mongodb_database", "a/b", "characters"),
        ("mongodb_database", "x" * 64, "characters"),
        ("batch_size", "0", "1 to 10000"),
        ("batch_size", "10001", "1 to 10000"),
        ("batch_size", "many", "integer"),
        ("batch_size", "1.5", "integer"),
        ("prefetch", "0", "65535"),
        ("prefetch", "65536", "65535"),
        ("log_level", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("log_format", "xml", "text or json"),
        ("drain_seconds", "-1", "0 to 3600"),
        ("drain_seconds", "nan", "0 to 3600"),
        ("drain_seconds", "inf", "0 to 3600"),
        ("drain_seconds", "soon", "0 to 3600"),
    ],
)
def test_a_bad_value_is_refused_with_what_its_variable_takes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, takes: str
) -> None:
    monkeypatch.setenv("RESERVATION_" + name.upper(), value)
    line = refusal()
    assert "RESERVATION_" + name.upper() in line
    assert value in line
    assert takes in line.partition("it takes")[2]


def test_all_bad_values_are_refused_at_once() -> None:
    line = refusal(batch_size="many", log_format="xml")
    assert "RESERVATION_BATCH_SIZE" in line
    assert "RESERVATION_LOG_FORMAT" in line


def test_a_prefetch_below_the_batch_size_just_bounds_the_batches() -> None:
    assert load_settings(batch_size=10, prefetch=9).prefetch_count == 9


def test_a_value_of_several_lines_is_refused_in_one() -> None:
    refusal(amqp_url="http:\n//x\n")


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amqp_url", f"http://guest:{SECRET}@broker/"),
        ("amqp_url", f"amqp:guest:{SECRET}@broker"),
        ("amqp_url", f"guest:{SECRET}@broker"),
        ("amqp_url", f"amqp://guest:{SECRET}@:5672/"),
        ("amqp_url", f"amqp://guest:{SECRET}"),
        ("amqp_url", f"guest:{SECRET}"),
        ("mongodb_uri", f"mongo://user:{SECRET}@host/"),
        ("mongodb_uri", f"user:{SECRET}@host"),
        ("mongodb_uri", f"mongo://host/?tlsCertificateKeyFilePassword={SECRET}"),
        ("mongodb_uri", f"mongo://host/?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}"),
        ("mongodb_uri", f"mongodb:/user:{SECRET}"),
        ("amqp_url", f"amqp://guest:12/{SECRET}@broker/"),
        ("amqp_url", f"amqp://guest:12?{SECRET}@broker/"),
        ("amqp_url", f"amqp://guest:12#{SECRET}@broker/"),
        ("mongodb_uri", f"mongodb://user:12/{SECRET}@host/"),
        ("mongodb_uri", f"mongodb://user:12?{SECRET}@host/"),
    ],
)
def test_a_refusal_never_shows_a_password(name: str, value: str) -> None:
    assert SECRET not in refusal(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amqp_url", f"amqp://guest:a%40{SECRET}%2F@broker/%2F"),
        ("amqp_url", f"amqp://guest:a@{SECRET}@broker/vhost?cafile=/home/me@work/ca.pem"),
        ("mongodb_uri", f"mongodb://user:%2F%3A{SECRET}@host/?replicaSet=rs0"),
        ("mongodb_uri", "mongodb://host/?appName=me@work"),
    ],
)
def test_a_password_may_hold_anything_if_it_is_percent_encoded(name: str, value: str) -> None:
    assert getattr(load_settings(**{name: value}), name) == value


def test_the_representation_of_the_settings_shows_no_url() -> None:
    settings = load_settings(amqp_url=f"amqp://guest:{SECRET}@broker/")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RESERVATION_BATCHSIZE", "BATCH_SIZE"),
        ("RESERVATION_MONGO_URI", "MONGODB_URI"),
        ("reservation_log_levels", "LOG_LEVEL"),
        ("RESERVATION_XYZ", None),
        ("RESERVATION_", None),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None
) -> None:
    monkeypatch.setenv(name, SECRET)
    hint = f"; did you mean RESERVATION_{nearest}?" if nearest else ""
    assert unknown_variables() == [f"{name.upper()} is not a setting and is ignored{hint}"]


def test_an_unknown_variable_of_the_env_file_is_named(tmp_path: Path) -> None:
    lines = [f"RESERVATION_AMQPURL={SECRET}", "RESERVATION_PREFETCH=9", "BATCHSIZE=3"]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert unknown_variables() == [
        "RESERVATION_AMQPURL is not a setting and is ignored; did you mean RESERVATION_AMQP_URL?"
    ]


def test_a_url_that_is_read_as_part_of_a_name_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"RESERVATION_AMQP_URL:amqp://u:{SECRET}@host/?auth=plain")
    (line,) = unknown_variables()
    assert line.startswith("RESERVATION_AMQP_URL… is not a setting")
    assert SECRET not in line


def test_what_kubernetes_says_of_a_service_is_not_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_AMQP", "PORT", "PORT_5672_TCP_ADDR")
    for name in names:
        monkeypatch.setenv(f"RESERVATION_RABBIT_{name}", "10.0.0.1")
    assert len(unknown_variables()) == len(names)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.2")
    assert unknown_variables() == []


def test_settings_and_variables_of_others_are_not_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("reservation_batch_size", "3")
    monkeypatch.setenv("RESERVATIONS_BATCHSIZE", "3")
    assert unknown_variables() == []
