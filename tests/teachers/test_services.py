"""Teachers of services, with the unmodified SDKs against the loopback server."""

import asyncio
import base64
import hashlib
import io
import json
import re
from types import SimpleNamespace

import pytest
from PIL import Image

from ares.config.command_line import mistakes_in
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.messages import Reply
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper
from ares.teachers.services.anthropic import AnthropicTeacher
from ares.teachers.services.openai import OpenAITeacher
from ares.teachers.services.prices import most_tokens
from ares.teachers.services.request_images import LARGEST_FILE
from ares.teachers.services.retry import RetryPolicy
from ares.types import AresError

PRICES = {"claude-haiku-5-5": {"input": 1.0, "output": 5.0}}
RATIONALES = [["Ice is cold.", "So yes."], ["No."], ["It melts.", "It is water.", "Yes."]]
TRANSPORT = ["rate_limit", "overloaded", "server_error", "slow_drip", "time_out"]
BROKEN = ["reset", "malformed", "not_json"]


def claude(server, **changes) -> AnthropicTeacher:
    settings = {"model": "claude-haiku-5-5", "base_url": server.url, "prices": PRICES, "timeout": 20.0}
    teacher = AnthropicTeacher(**{**settings, **changes})
    teacher.client.policy = RetryPolicy(
        timeout=teacher.client.policy.timeout, deadline=teacher.client.policy.deadline, first=0.02
    )
    return teacher


def gpt(server, **changes) -> OpenAITeacher:
    settings = {
        "model": "claude-haiku-5-5",
        "base_url": f"{server.url}/v1",
        "prices": PRICES,
        "timeout": 20.0,
    }
    teacher = OpenAITeacher(**{**settings, **changes})
    teacher.client.policy = RetryPolicy(
        timeout=teacher.client.policy.timeout, deadline=teacher.client.policy.deadline, first=0.02
    )
    return teacher


BOTH = pytest.mark.parametrize("make", [claude, gpt], ids=["anthropic", "openai"])


def run(teacher, job):
    async def main():
        try:
            return await job
        finally:
            await teacher.close()

    return asyncio.run(main())


def scores(results) -> list:
    return [None if isinstance(result.scores, FeedbackError) else result.scores for result in results]


@BOTH
@pytest.mark.parametrize("prompt", ["default", "paper"])
def test_score_correct_and_judge(make, prompt, loopback, problem):
    server = loopback()
    teacher = make(server, prompt=prompt, group="k" if prompt == "default" else 1)

    async def main():
        return (
            await teacher.score(problem(), [*RATIONALES, []]),
            await teacher.correct(problem(), "Ice melts.", ["Ice melts."]),
            await teacher.judge(problem(), "Ice melts.", "No."),
        )

    found, correction, verdict = run(teacher, main())
    assert [len(part) for part in scores(found)] == [2, 1, 3, 0]
    assert correction.text == "Ice melts. So the answer is clear."
    assert verdict.winner in ("first", "second")
    requests = (1 if prompt == "default" else 3) + 2
    assert teacher.usage.requests == len(server.hashes) == requests
    assert teacher.usage.usd == pytest.approx(
        (teacher.usage.input_tokens + 5 * teacher.usage.output_tokens) / 1e6
    )


@BOTH
@pytest.mark.parametrize("fault", [*TRANSPORT, *BROKEN])
def test_temporary_faults_are_retried(make, fault, loopback, problem):
    server = loopback(script=[fault, fault], hang=10, drip=0.2, retry_wait=0.05)
    teacher = make(server, timeout=1.0 if fault in ("slow_drip", "time_out") else 20.0)
    assert [len(part) for part in scores(run(teacher, teacher.score(problem(), RATIONALES)))] == [2, 1, 3]
    assert server.outcomes["ok"] == 1
    assert server.outcomes[fault] == 2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [(5, 1), ({"a": 1}, 1), (["x"], 1), ("half a character: \ud83d", 1), ("x", -5), ("x", 10**30)],
)
def test_reply_that_cannot_be_stored_is_malformed(text, tokens):
    usage = SimpleNamespace(input_tokens=tokens, output_tokens=1, prompt_tokens=tokens, completion_tokens=1)
    usage.cache_creation_input_tokens = usage.cache_read_input_tokens = None
    block = SimpleNamespace(type="text", text=text)
    said = SimpleNamespace(content=[block], usage=usage, stop_reason="end_turn")
    choice = SimpleNamespace(message=SimpleNamespace(content=text), finish_reason="stop")
    with pytest.raises(ValueError):
        AnthropicTeacher(model="claude-haiku-5-5").client.reply(said)
    teacher = OpenAITeacher(model="any")
    with pytest.raises(ValueError):
        teacher.client.reply(SimpleNamespace(choices=[choice], usage=usage), {})


@pytest.mark.parametrize(
    ("stop", "found"),
    [
        *(("end_turn", ""), ("stop_sequence", ""), ("refusal", "refusal"), ("max_tokens", "max_tokens")),
        ("model_context_window_exceeded", "max_tokens"),
    ],
)
def test_reply_has_the_texts_and_the_stop_reason(stop, found):
    blocks = [
        SimpleNamespace(type="thinking", thinking="Hm.", text="not said"),
        SimpleNamespace(type="text", text='{"1.1": '),
        SimpleNamespace(type="text", text="0.5}"),
    ]
    usage = SimpleNamespace(
        input_tokens=5, output_tokens=7, cache_creation_input_tokens=2, cache_read_input_tokens=3
    )
    said = SimpleNamespace(content=blocks, usage=usage, stop_reason=stop)
    reply = AnthropicTeacher(model="claude-haiku-5-5", prices=PRICES).client.reply(said)
    assert (reply.text, reply.stop) == ('{"1.1": 0.5}', found)
    assert (reply.input_tokens, reply.output_tokens) == (10, 7)  # cached or not, at the full price
    assert reply.usd == pytest.approx(45e-6)


def test_objection_to_an_empty_reply_has_no_empty_message(problem):
    teacher = AnthropicTeacher(model="claude-haiku-5-5")
    payload = teacher.score_payload(problem(), RATIONALES)
    again = teacher.repair_payload(payload, Reply(" \n", 1, 1, None), "no scores")
    asked, replied, objection = teacher.client.arguments(again)["messages"]
    assert asked["content"] == payload["text"]
    assert (replied["role"], replied["content"]) == ("assistant", "(nothing)")
    assert "no scores" in objection["content"]


@BOTH
@pytest.mark.parametrize(("fault", "lost"), [("gateway", 1), ("server_error", 0), ("overloaded", 0)])
def test_gateway_timeout_counts_as_paid(make, fault, lost, loopback, problem, tmp_path):
    with Ledger(tmp_path / "ledger", payer="run", max_usd=1.0) as ledger:
        teacher = make(loopback(script=[fault]), ledger=ledger)
        [(_, request)] = teacher.score_requests(problem(), RATIONALES)
        run(teacher, teacher.score(problem(), RATIONALES))
        assert ledger.spent() == pytest.approx(teacher.usage.usd + lost * teacher.max_cost_usd(request))


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0}]
)
def test_reply_without_token_counts_is_charged_at_the_maximum(usage, loopback, problem, tmp_path, capsys):
    server = loopback(usage=usage)
    with Ledger(tmp_path / "ledger", payer="run") as ledger:
        teacher = gpt(server, ledger=ledger)
        worst = teacher.max_cost_usd(teacher.score_requests(problem(), RATIONALES)[0][1])
        ledger.max_usd = 3.5 * worst

        async def main():
            for number in range(5):
                await teacher.score(problem(str(number)), RATIONALES)

        with pytest.raises(AresError, match="max_usd"):
            run(teacher, main())
        assert ledger.spent() == pytest.approx(3 * worst, rel=0.01)
    assert len(server.hashes) == 3
    assert capsys.readouterr().err.count("count no tokens") == 1


def test_missing_token_counts_without_a_price_cause_no_warning(loopback, problem, capsys):
    teacher = gpt(loopback(usage=None), prices=None)
    assert None not in scores(run(teacher, teacher.score(problem(), RATIONALES)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "entry",
    [{"input": 1.0}, {"output": 1.0}, 5, "1", {"input": "1", "output": 2}, {"input": -1, "output": 2}],
)
def test_invalid_price_is_refused(entry):
    with pytest.raises(
        AresError, match=r"conf/prices\.yaml.*the price of claude-haiku-5-5 is .*give `\{input: 1"
    ):
        AnthropicTeacher(model="claude-haiku-5-5", prices={"claude-haiku-5-5": entry})


def test_most_tokens_is_one_per_byte_plus_the_longest_reply():
    payload = {"text": "Eis schmölze: 氷", "schema": None, "image": None, "max_tokens": 100}
    least, _ = most_tokens({**payload, "text": ""})
    assert most_tokens(payload) == (least + len(payload["text"].encode()), 100)
    again = {"replied": "schmölze", "objection": "No."}
    assert most_tokens({**payload, **again})[0] == most_tokens(payload)[0] + 9 + 3
    assert most_tokens({**payload, "image": {"size": [750, 3]}})[0] == most_tokens(payload)[0] + 3


def test_price_may_be_unknown():
    for prices in (None, {}, {"claude-haiku-5-5": None}):
        assert not AnthropicTeacher(model="claude-haiku-5-5", prices=prices).priced


def test_scores_belong_to_their_sentences_grouped_and_alone(loopback, problem):
    server = loopback()
    for pid in "123456":
        together = run(claude(server), claude(server).score(problem(pid), RATIONALES))
        alone_teacher = claude(server, group=1)
        alone = run(alone_teacher, alone_teacher.score(problem(pid), RATIONALES))
        assert scores(together) == scores(alone)
    assert alone_teacher.usage.requests == 3
    orders = {tuple(claude(server).score_groups(problem(str(n)), RATIONALES)[0]) for n in range(40)}
    assert len(orders) == 6


@BOTH
def test_wrong_count_is_repaired_once(make, loopback, problem):
    server = loopback(content_script=["wrong_count", "ok"])
    teacher = make(server)
    found = run(teacher, teacher.score(problem(), RATIONALES))
    assert None not in scores(found)
    assert server.outcomes == {"wrong_count": 1, "ok": 1}
    hashes = {result.request_hash for result in found}
    assert len(hashes) == 2  # what could be read at once stays


@pytest.mark.parametrize("prompt", ["default", "paper"])
def test_correction_that_repeats_its_prompt_is_quarantined(prompt, problem, monkeypatch):
    teacher = AnthropicTeacher(model="claude-haiku-5-5", prompt=prompt, group=1)

    async def echo(request):
        said = json.dumps({"final_rationale": request.payload["text"].split("\n\n")[0]})
        return Reply(said, 1, 1, None)

    monkeypatch.setattr(teacher, "send", echo)
    result = run(teacher, teacher.correct(problem(), "Ice melts.", ["Ice melts."]))
    assert isinstance(result.text, FeedbackError)


@BOTH
@pytest.mark.parametrize("fault", ["wrong_count", "refusal", "max_tokens"])
def test_failed_repair_is_quarantined(make, fault, loopback, problem):
    server = loopback(content_script=[fault, fault])
    teacher = make(server)
    [result] = run(teacher, teacher.score(problem(), RATIONALES[:1]))
    assert isinstance(result.scores, FeedbackError)
    expected = {"wrong_count": "1 scores for 2", "refusal": "refused", "max_tokens": "cut off"}[fault]
    assert expected in result.scores.reason
    assert result.scores.reply
    assert len(server.hashes) == 2


def test_cut_off_reply_is_repeated_with_twice_the_limit(loopback, problem):
    server = loopback()
    teacher = claude(server)
    payload = teacher.score_payload(problem(), RATIONALES)
    again = teacher.repair_payload(payload, Reply("{", 1, 1, None, stop="max_tokens"), "cut off")
    assert again == {**payload, "max_tokens": 2 * payload["max_tokens"]}


def test_concurrency_limits_open_requests(loopback, problem):
    server = loopback(latency=0.1)
    teacher = claude(server, concurrency=5)

    async def main():
        await asyncio.gather(*(teacher.score(problem(str(n)), RATIONALES) for n in range(30)))

    run(teacher, main())
    assert server.most_open == 5


def test_refused_request_is_quarantined_and_absent_service_stops(loopback, problem, tmp_path):
    teacher = claude(loopback(script=["invalid"]))
    [result] = run(teacher, teacher.score(problem(), RATIONALES[:1]))
    assert isinstance(result.scores, FeedbackError)
    assert "400" in result.scores.reason
    broken = claude(loopback(script=["malformed"] * 99))
    broken.client.policy = RetryPolicy(first=0.01, attempts=3)
    [result] = run(broken, broken.score(problem(), RATIONALES[:1]))
    assert "broken reply" in result.scores.reason
    server = loopback()
    server.close()
    with Ledger(tmp_path / "ledger", payer="run", max_usd=1.0) as ledger:
        away = claude(server, deadline=0.5, ledger=ledger)
        with pytest.raises(AresError, match="does not answer"):
            run(away, away.score(problem(), RATIONALES))
        assert ledger.spent() == 0  # no connection, so nothing can have been paid for


@BOTH
@pytest.mark.parametrize(("fault", "paid"), [("malformed", 3), ("server_error", 0)])
def test_given_up_request_counts_what_it_may_have_cost(make, fault, paid, loopback, problem, tmp_path):
    with Ledger(tmp_path / "ledger", payer="run", max_usd=1.0) as ledger:
        teacher = make(loopback(script=[fault] * 9), ledger=ledger)
        teacher.client.policy = RetryPolicy(first=0.01, attempts=3)
        [(_, request)] = teacher.score_requests(problem(), RATIONALES[:1])
        [result] = run(teacher, teacher.score(problem(), RATIONALES[:1]))
        assert isinstance(result.scores, FeedbackError)
        assert ledger.spent() == pytest.approx(paid * teacher.max_cost_usd(request))


@BOTH
def test_refused_key_stops_and_is_not_shown(make, loopback, problem, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-wrong-98765")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-98765")
    teacher = make(loopback())
    with pytest.raises(AresError) as caught:
        run(teacher, teacher.score(problem(), RATIONALES))
    assert "invalid key: <key>" in str(caught.value)
    assert "sk-wrong" not in str(caught.value)
    assert caught.value.__cause__ is None


@BOTH
@pytest.mark.parametrize("before", [0, 240, 260, 270, 280, 290])
def test_error_shows_no_part_of_a_key(make, before, loopback, problem):
    server = loopback(script=["invalid"], message="x" * before + "{key}" + "y" * 300)
    teacher = make(server)
    [result] = run(teacher, teacher.score(problem(), RATIONALES[:1]))
    assert isinstance(result.scores, FeedbackError)
    assert "400" in result.scores.reason
    assert "sk-" not in result.scores.reason


@BOTH
def test_key_is_stripped(make, loopback, problem, monkeypatch):
    server = loopback()
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"{server.key}\n")
    monkeypatch.setenv("OPENAI_API_KEY", f" {server.key}\r\n")
    teacher = make(server)
    assert None not in scores(run(teacher, teacher.score(problem(), RATIONALES)))
    assert teacher.client.key == server.key


@BOTH
@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-\u00fc", "sk-\x7f"])
def test_key_that_is_not_a_valid_header_is_refused_and_not_shown(make, key, loopback, problem, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server = loopback()
    teacher = make(server)
    for ask in (teacher.check, lambda: run(teacher, teacher.score(problem(), RATIONALES))):
        with pytest.raises(AresError, match="_API_KEY holds characters") as caught:
            ask()
        assert "sk-" not in str(caught.value)
    assert server.hashes == []


@BOTH
def test_key_is_redacted_in_every_form(make, loopback):
    teacher = make(loopback())
    teacher.client.key = "sk-a\\b'c"
    for form in (teacher.client.key, repr(teacher.client.key), repr(f"Bearer {teacher.client.key}".encode())):
        assert "sk-a" not in teacher.client.redacted(f"Illegal header value {form}")


@BOTH
def test_request_that_cannot_be_sent_costs_nothing(make, loopback, problem, tmp_path):
    with Ledger(tmp_path / "ledger", payer="run", max_usd=1.0) as ledger:
        teacher = make(loopback(), ledger=ledger)
        teacher.client.base_url = "nowhere/v1"
        with pytest.raises(AresError, match=r"cannot send any request.*teacher\.base_url"):
            run(teacher, teacher.score(problem(), RATIONALES))
        assert ledger.spent() == 0


def test_missing_key_is_refused(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AresError, match="ANTHROPIC_API_KEY"):
        AnthropicTeacher(model="claude-haiku-5-5").check()
    with pytest.raises(AresError, match="OPENAI_API_KEY"):
        OpenAITeacher(model="gpt").check()
    assert OpenAITeacher(model="local", base_url="http://localhost:1/v1").check() == []


def test_unknown_model_causes_a_warning(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    assert AnthropicTeacher(model="claude-haiku-5-5").check() == []
    [warning] = AnthropicTeacher(model="claude-3-haiku-20240307").check()
    assert "claude-3-haiku-20240307" in warning


@pytest.mark.parametrize("value", ["0", "-2", "many", "true", "nan", "inf"])
def test_number_that_is_not_above_0_is_refused(value):
    settings = ("concurrency", "timeout", "deadline", "max_tokens")
    mistakes = mistakes_in(["teacher=anthropic", *(f"teacher.{setting}={value}" for setting in settings)])
    for setting, mistake in zip(settings, mistakes, strict=True):
        wanted = r"it must be a (whole )?number (above 0|of at least 1)"
        assert re.match(rf"teacher\.{setting}=.*: {wanted}", mistake)


@pytest.mark.parametrize(
    "settings",
    [("concurrency=2.5", "max_tokens=2.5", "structured=maybe", "batch=maybe", "options=5"), ("options=[a]",)],
)
def test_setting_of_the_wrong_type_is_refused(settings):
    mistakes = mistakes_in(["teacher=anthropic", *(f"teacher.{setting}" for setting in settings)])
    for setting, mistake in zip(settings, mistakes, strict=True):
        assert mistake.startswith(f"teacher.{setting.partition('=')[0]}=")
    assert ": it must be " in mistake


@pytest.mark.parametrize(
    "url",
    [5, "localhost:8000/v1", "http:///v1", "http://host:port/v1", "http://host:99999/v1", "http://[1::2/v1"],
)
def test_base_url_without_http_or_host_is_refused(url):
    with pytest.raises(AresError, match=re.escape(f"teacher.base_url={url}: give an address")):
        OpenAITeacher(model="any", base_url=url)


def test_wrong_url_is_reported(loopback, problem):
    server = loopback()
    for teacher in (claude(server, base_url=f"{server.url}/v1"), gpt(server, base_url=server.url)):
        with pytest.raises(AresError, match=r"404.*correct teacher\.model or teacher\.base_url"):
            run(teacher, teacher.score(problem(), RATIONALES))


def test_paper_prompt_needs_group_1():
    with pytest.raises(AresError, match=r"teacher\.group=1"):
        AnthropicTeacher(model="claude-haiku-5-5", prompt="paper", group="k")


@pytest.mark.parametrize("prompt", ["default", "paper"])
def test_every_request_has_the_image(prompt, problem, tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("RGB", (30, 25), "red").save(path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    teacher = AnthropicTeacher(model="claude-haiku-5-5", prompt=prompt, group=1, prices=PRICES)
    requests = [request for _, request in teacher.score_requests(problem(image=path), RATIONALES)]
    assert len(requests) == 3
    for request in requests:
        [image, text] = teacher.client.arguments(request.payload)["messages"][0]["content"]
        assert text["text"] == request.payload["text"]
        assert image["source"]["media_type"] == "image/png"
        assert base64.b64decode(image["source"]["data"]) == path.read_bytes()
    without = teacher.score_payload(problem(image=tmp_path / "absent.png"), RATIONALES[:1])
    assert without["image"] is None


@pytest.mark.parametrize("teacher", [AnthropicTeacher, OpenAITeacher])
def test_requests_have_all_images_in_order(teacher, problem, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    paths = [tmp_path / f"{name}.png" for name in ("a", "absent", "b", "c")]
    for path, size in zip(paths, [(750, 2), None, (750, 3), (750, 4)], strict=True):
        if size:
            Image.new("RGB", size, "red").save(path)
    asked = teacher(model="some-model", prices=PRICES)
    several = asked.score_payload(problem(images=tuple(paths)), RATIONALES[:1])
    *images, text = asked.client.arguments(several)["messages"][0]["content"]
    data = [
        image["source"]["data"] if "source" in image else image["image_url"]["url"].split(",")[1]
        for image in images
    ]
    assert [base64.b64decode(one) for one in data] == [paths[at].read_bytes() for at in (0, 2, 3)]
    assert text["text"] == several["text"]
    one = asked.score_payload(problem(image=paths[0]), RATIONALES[:1])
    assert most_tokens(several)[0] - most_tokens(one)[0] == 3 + 4
    assert several.keys() - one.keys() == {"more_images"}
    assert {key: value for key, value in several.items() if key != "more_images"} == one


def test_payload_of_one_image_is_the_one_that_ledgers_hold(problem, tmp_path):
    Image.new("RGB", (30, 25), "red").save(tmp_path / "image.png")
    teacher = AnthropicTeacher(model="claude-haiku-5-5")
    payload = teacher.score_payload(problem(image=tmp_path / "image.png"), RATIONALES[:1])
    assert list(payload) == ["model", "max_tokens", "text", "schema", "options", "image"]
    sha256 = hashlib.sha256((tmp_path / "image.png").read_bytes()).hexdigest()
    assert payload["image"] == {"sha256": sha256, "media_type": "image/png", "size": [30, 25]}


def test_large_images_and_other_formats_are_converted(problem, tmp_path):
    path = tmp_path / "image.bmp"
    Image.new("RGB", (3000, 1500), "red").save(path)
    teacher = AnthropicTeacher(model="claude-haiku-5-5")
    payload = teacher.score_payload(problem(image=path), RATIONALES[:1])
    assert payload["image"]["size"] == [1568, 784]
    data = base64.b64decode(teacher.client.arguments(payload)["messages"][0]["content"][0]["source"]["data"])
    assert Image.open(io.BytesIO(data)).size == (1568, 784)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(AresError, match=r"text\.png is not an image; replace"):
        teacher.score_payload(problem(image=tmp_path / "text.png"), RATIONALES[:1])


def test_image_of_too_many_bytes_is_compressed(problem, tmp_path):
    path = tmp_path / "image.png"
    Image.effect_noise((1500, 1500), 200).convert("RGB").save(path, compress_level=0)
    assert path.stat().st_size > LARGEST_FILE
    teacher = AnthropicTeacher(model="claude-haiku-5-5")
    payload = teacher.score_payload(problem(image=path), RATIONALES[:1])
    data = base64.b64decode(teacher.client.arguments(payload)["messages"][0]["content"][0]["source"]["data"])
    assert len(data) <= LARGEST_FILE
    assert Image.open(io.BytesIO(data)).size == (1500, 1500)


def _bomb(path, monkeypatch):
    Image.new("RGB", (400, 400)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


def _value_error(path, monkeypatch):
    path.write_bytes(b"P5 4 x 255\n")


def _cut(path, monkeypatch):
    buffer = io.BytesIO()
    Image.effect_noise((2000, 2000), 90).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue()[:5000])


@pytest.mark.parametrize("spoil", [_bomb, _value_error, _cut])
def test_unreadable_image_gives_feedback_errors(spoil, problem, tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    spoil(path, monkeypatch)
    teacher = AnthropicTeacher(model="claude-haiku-5-5")
    shown = problem(image=path)

    async def main():
        *scored, empty = await teacher.score(shown, [*RATIONALES, []])
        correction = await teacher.correct(shown, "Ice.", ["Ice."])
        verdict = await teacher.judge(shown, "Ice.", "No.")
        return [*(result.scores for result in scored), correction.text, verdict.winner], empty

    found, empty = run(teacher, main())
    assert {type(item) for item in found} == {FeedbackError}
    assert all(str(path) in item.reason and "<" not in item.reason for item in found)
    assert empty.scores == []


def test_options_and_schema_are_sent_and_hashed(problem):
    hashes = set()
    for changes in (
        {},
        {"options": {"temperature": 0}},
        {"structured": False},
        {"model": "claude-sonnet-5-5"},
    ):
        teacher = AnthropicTeacher(**{"model": "claude-haiku-5-5", **changes})
        [(_, request)] = teacher.score_requests(problem(), RATIONALES)
        hashes.add(request.hash)
        sent = teacher.client.arguments(request.payload)
        assert sent.get("extra_body") == changes.get("options")
        assert ("output_config" in sent) is teacher.structured
    assert len(hashes) == 4


@pytest.mark.parametrize(("prompt", "form"), [("default", prompts), ("paper", paper)])
def test_prompt_version_enters_the_hash(prompt, form, problem, monkeypatch):
    def asked():
        teacher = AnthropicTeacher(model="claude-haiku-5-5", prompt=prompt, group=1)
        return teacher.score_requests(problem(), RATIONALES)[0][1].hash

    before = asked()
    assert asked() == before
    monkeypatch.setattr(form, "VERSION", "another")
    assert asked() != before


def test_endpoint_enters_the_hash(problem, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    urls = (None, "http://localhost:1/v1", "http://localhost:2/v1")

    def asked(url):
        teacher = OpenAITeacher(model="qwen", base_url=url)
        [(_, request)] = teacher.score_requests(problem(), RATIONALES)
        assert "endpoint" not in teacher.client.arguments(request.payload)
        return request.hash, str(teacher.fingerprint())

    for values in zip(*map(asked, urls), strict=True):
        assert len(set(values)) == 3
    assert asked("http://localhost:1/v1/") == asked("http://localhost:1/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert asked(None) == asked("http://localhost:1/v1")
    # Where Claude is reached does not decide what it replies.
    claudes = [AnthropicTeacher(model="claude-haiku-5-5", base_url=url) for url in urls]
    assert len({teacher.score_requests(problem(), RATIONALES)[0][1].hash for teacher in claudes}) == 1


def test_reasoning_model_gets_max_completion_tokens_and_no_temperature(problem):
    options = {"options": {"temperature": None}, "limit": "max_completion_tokens"}
    teacher = OpenAITeacher(model="o9", **options)
    payload = teacher.score_payload(problem(), RATIONALES)
    sent = teacher.client.arguments(payload)
    assert sent["max_completion_tokens"] == payload["max_tokens"]
    assert not {"max_tokens", "extra_body"} & sent.keys()
    with pytest.raises(AresError, match=r"teacher\.limit=tokens: choose from"):
        OpenAITeacher(model="o9", limit="tokens")


def test_cap_is_never_exceeded_and_a_higher_one_continues(loopback, problem, tmp_path):
    server = loopback(latency=0.02)
    path = tmp_path / "ledger.sqlite"

    def ask(max_usd):
        with Ledger(path, poll=0.01, payer="run", max_usd=max_usd) as ledger:
            teacher = claude(server, ledger=ledger)

            async def main():
                jobs = [teacher.score(problem(str(n)), RATIONALES) for n in range(30)]
                found = await asyncio.gather(*jobs, return_exceptions=True)
                await teacher.close()
                return found

            return asyncio.run(main()), ledger.spent(), teacher

    found, spent, teacher = ask(0.01)
    stopped = [item for item in found if isinstance(item, AresError)]
    assert 0 < len(stopped) < 30
    assert "max_usd" in str(stopped[0])
    assert teacher.usage.usd == pytest.approx(spent)
    assert 0.005 < spent <= 0.01
    found, spent, teacher = ask(None)
    assert not any(isinstance(item, Exception) for item in found)
    assert teacher.usage.cached == 30 - len(stopped)
    assert len(set(server.hashes)) == len(server.hashes) == 30


def test_attempts_that_may_have_been_paid_for_count_against_the_cap(loopback, problem, tmp_path):
    server = loopback(script=["reset"] * 99)
    with Ledger(tmp_path / "ledger.sqlite", payer="run", max_usd=0.02) as ledger:
        teacher = claude(server, ledger=ledger, deadline=20)
        [(_, request)] = teacher.score_requests(problem(), RATIONALES)
        worst = teacher.max_cost_usd(request)
        assert worst
        with pytest.raises(AresError, match="max_usd"):
            run(teacher, teacher.score(problem(), RATIONALES))
        assert ledger.spent() <= 0.02
        assert len(server.hashes) == int(0.02 / worst)
