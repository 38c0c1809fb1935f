"""Invalid settings are errors."""

import pytest

from cloud_service.settings import CloudSettings, SettingsError, load_settings


def test_an_unknown_variable_is_refused_and_the_nearest_one_named(monkeypatch):
    monkeypatch.setenv("CLOUD_DATABSE_URL", "sqlite:///jobs.sqlite")
    with pytest.raises(
        SettingsError, match="no setting CLOUD_DATABSE_URL: did you mean CLOUD_DATABASE_URL"
    ):
        load_settings()


@pytest.mark.parametrize("name", ["CLOUD_SDK_VERSION", "CLOUD_RUN_JOB", "CLOUDSDK_CONFIG"])
def test_what_a_hosting_platform_sets_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CLOUD_PORT", "eighty", "CLOUD_PORT: Input should be a valid integer"),
        ("CLOUD_PORT", "65536", "CLOUD_PORT: Input should be less than or equal to 65535"),
        ("CLOUD_KEEP_ALIVE", "0", "CLOUD_KEEP_ALIVE: Input should be greater than"),
        ("CLOUD_MAX_JSON_BYTES", "5", "CLOUD_MAX_JSON_BYTES: Input should be greater than"),
        ("CLOUD_BODY_TIMEOUT", "nan", "CLOUD_BODY_TIMEOUT: "),
        ("CLOUD_DEVICE", "tpu", "CLOUD_DEVICE: Input should be 'auto', 'cpu' or 'cuda'"),
        ("CLOUD_LOG_LEVEL", "loud", "CLOUD_LOG_LEVEL: "),
        ("CLOUD_DATABASE_URL", "mysql://u:secret@h/n", "sqlite:///PATH or postgresql://"),
        ("CLOUD_DATABASE_URL", "sqlite://", "sqlite:///PATH or postgresql://"),
        ("CLOUD_ADMIN_TOKEN", "secret", "CLOUD_ADMIN_TOKEN: Value should have at least 8"),
        ("CLOUD_ADMIN_TOKEN", "a secret of message", "CLOUD_ADMIN_TOKEN takes visible ASCII"),
        ("CLOUD_ADMIN_TOKEN", "secrét-secrét", "CLOUD_ADMIN_TOKEN takes visible ASCII"),
        ("CLOUD_MAX_HEAD_BYTES", "1023", "CLOUD_MAX_HEAD_BYTES: Input should be greater than"),
        ("CLOUD_MAX_HEAD_LINES", "0", "CLOUD_MAX_HEAD_LINES: Input should be greater than"),
        ("CLOUD_HEAD_SECONDS", "0", "CLOUD_HEAD_SECONDS: Input should be greater than"),
        ("CLOUD_WRITE_SECONDS", "inf", "CLOUD_WRITE_SECONDS: "),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_without_being_shown(
    monkeypatch, name, value, message
):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert message in caught.value.detail
    assert "secret" not in caught.value.detail


def test_an_argument_wins_over_the_environment_and_empty_means_unset(monkeypatch):
    monkeypatch.setenv("CLOUD_PORT", "8001")
    monkeypatch.setenv("CLOUD_ADMIN_TOKEN", "")
    assert load_settings().port == 8001
    assert load_settings(port=8002).port == 8002
    assert load_settings(port=None).port == 8001
    assert load_settings().admin_token is None


def test_an_unknown_argument_is_refused():
    with pytest.raises(SettingsError, match="Extra inputs are not permitted"):
        load_settings(prot=8000)


def test_secrets_are_not_in_the_settings_text():
    settings = CloudSettings(
        admin_token="very-secret-token", database_url="postgresql://u:p%40ssword@h/n"
    )
    assert "very-secret" not in repr(settings)
    assert "ssword" not in repr(settings)
    assert {"p%40ssword", "p@ssword", "very-secret-token"} <= set(settings.secrets())


def test_every_setting_says_what_it_is():
    silent = [name for name, field in CloudSettings.model_fields.items() if not field.description]
    assert not silent
