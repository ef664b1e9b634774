"""What of a WebUI's config opens doors, and which of it may be hidden everywhere."""

from __future__ import annotations

import base64

from sdwatch.policy.privacy.config_secrets import in_file, is_weak, secret_files, secrets_of
from sdwatch.policy.privacy.redaction import Redactor
from tests.support.tables import table


def learned(*command: str, **env: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets_of(command, env):
        redactor.learn_secret(secret.value, secret.label)
    return redactor


FLAGS = (
    *("--gradio-auth", "--api-auth", "--auth", "--ngrok", "--hf-token", "--civitai-key"),
    *(
        "--openai-api-key",
        "--my-token",
        "--some-password",
        "--tls-keyfile",
        "--tls-keyfile-password",
    ),
    *("--client-secret", "--share-token", "--ngrok-authtoken", "--pass", "--ssl_keyfile"),
)


@table("flag", FLAGS)
def test_the_value_of_a_flag_that_speaks_of_a_secret_is_hidden_however_it_is_given(
    flag: str,
) -> None:
    value = "gold-Bar/77x"
    printed = f"Launching Web UI with arguments: --api {flag} {value}\n{flag}={value} ['{value}']"
    for command in ((flag, value), (f"{flag}={value}",), ("sh", "-c", f"x.sh {flag} {value}")):
        assert value not in learned(*command).redact(printed)
    assert value not in learned(COMMANDLINE_ARGS=f"--api {flag} {value}").redact(printed)
    assert value not in learned(COMMANDLINE_ARGS=f"{flag}='{value}'").redact(printed)


@table(
    "name", ["HF_TOKEN", "MY_SECRET", "PASSWORD", "API_KEY", "SD_AUTH", "AWS_ACCESS_KEY_ID", "KEY"]
)
def test_a_variable_that_is_named_like_a_secret_is_hidden(name: str) -> None:
    assert "gold-Bar/77x" not in learned(**{name: "gold-Bar/77x"}).redact("got gold-Bar/77x!")


def test_each_user_of_a_list_has_a_password_of_his_own() -> None:
    redactor = learned("--gradio-auth", "anna:first-Pass1,otto:second-Pass2")
    for text in ("first-Pass1", "second-Pass2", "otto:second-Pass2", "('anna', 'first-Pass1')"):
        assert "Pass" not in redactor.redact(f"with {text} it is")
    assert redactor.redact("anna and otto") == "anna and otto"


@table("password", ["1", "user", "1234", "admin", "cat"])
def test_a_short_or_usual_secret_is_hidden_behind_its_name_and_shreds_no_log(password: str) -> None:
    redactor = learned("--api-auth", f"user:{password}", "--my-key", password)
    log = "step 1 of 1234 for the user, an admin category, caterpillar users"
    assert redactor.redact(log) == log
    for text in (f"--my-key {password} x", f"my_key='{password}'", f"'my_key': '{password}'"):
        assert "<secret>" in redactor.redact(text)
    assert f":{password}" not in redactor.redact(f"arguments: --api-auth user:{password} --x")
    assert f":{password}" not in redactor.redact(f"api_auth='user:{password}'")


@table(
    ("command", "kept"),
    [
        (("--port", "7860", "--ckpt", "dreamshaper"), "7860 dreamshaper"),
        (("--max-tokens", "dreamshaper"), "dreamshaper"),
        (("--keyframes", "dreamshaper"), "dreamshaper"),
        (("--author", "dreamshaper"), "dreamshaper"),
    ],
)
def test_other_values_stay(command: tuple[str, ...], kept: str) -> None:
    assert learned(*command).redact(kept) == kept


def test_variables_of_a_usual_name_stay() -> None:
    assert learned(TOKENIZERS_PARALLELISM="falseish", PATH="/usr/bin").redact("falseish /usr/bin")
    assert learned(TOKENIZERS_PARALLELISM="falseish").redact("falseish") == "falseish"


def test_username_and_password_are_hidden_in_the_form_of_a_header_too() -> None:
    redactor = Redactor()
    for secret in secrets_of((), {}, "anna", "my-Pass1"):
        redactor.learn_secret(secret.value, secret.label)
    header = base64.b64encode(b"anna:my-Pass1").decode()
    assert redactor.redact(f"Basic {header} my-Pass1 anna") == "Basic <secret> <secret> anna"


def test_a_file_of_passwords_is_named_and_read() -> None:
    assert secret_files(("--gradio-auth-path", "users.txt", "--api-auth-file=b"), {}) == [
        "users.txt",
        "b",
    ]
    values = {secret.value for secret in in_file("anna:aa-Pass1\notto:bb-Pass2,x:cc-Pass3", "f")}
    assert {"aa-Pass1", "bb-Pass2", "cc-Pass3"} <= values


@table("text", ["hunter2", "s3cret-passw0rd", "12345678", "correcthorse"])
def test_a_secret_of_some_length_is_not_weak(text: str) -> None:
    assert not is_weak(text)
