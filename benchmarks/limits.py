"""What a card can do at most in each step of the paper's run, and what the Teacher costs: arithmetic, nothing is measured.

    python -m benchmarks.limits

docs/performance.md shows the tables; a test compares them.
"""

from dataclasses import dataclass

from ares.models.memory import ModelSize
from ares.models.t5.size import t5_size
from ares.models.vlm.size import published_config, size_of_config
from ares.teachers.base import Teacher
from ares.teachers.messages import Request
from ares.types import Problem
from benchmarks.memory import VLMS
from tests.support.composed import composed

QUESTIONS, K, RESPONSE = (
    12_726,
    4,
    65,
)  # of ScienceQA's training split; mean tokens, as in benchmarks/lengths.py
PROMPT, IMAGE = 79, 256  # mean tokens of a prompt, and of an image that a vision-language model reads
EVALUATED = 2 * 4_241  # questions of val and test, which are answered
ANSWER = 8  # tokens of an answer, whose prompt holds a rationale
SENTENCES = 4  # of a rationale
SLOTS, PPO_EPOCHS, FIT_EPOCHS = 64, 10, 20
FLOPS, BYTES = 989e12, 3.35e12  # per second: an H100's bfloat16 products and its memory, by its data sheet
GPUS = (1, 4, 8, 64)


@dataclass(frozen=True)
class Model:
    """`reading` and `writing`: weights in the products of a prompt's and of a response's token; `prompt`: its tokens."""

    reading: float
    writing: float
    prompt: int
    adapter: bool

    def fit(self, questions: float, samples: int, *, lora: bool = False) -> float:
        """FLOPs of a forward and backward pass over questions with so many responses; each prompt is read once.

        An adapter's backward pass has the gradients of activations, and hardly any of weights. With `lora` the response is
        an answer to a question with a rationale, for which a T5 trains an adapter, too.
        """
        return (4 if self.adapter or lora else 6) * questions * self._products(samples, answers=lora)

    def writes(self, questions: float, samples: int, *, answers: bool = False) -> tuple[float, float]:
        """FLOPs, and bytes: every step reads all weights, two bytes each, for the rows in progress."""
        tokens = questions * samples * (ANSWER if answers else RESPONSE)
        return 2 * questions * self._products(samples, answers=answers), 2 * self.writing * tokens / SLOTS

    def _products(self, samples: int, *, answers: bool) -> float:
        """Products of a token with a weight for one question and its responses."""
        prompt, response = self.prompt + answers * RESPONSE, ANSWER if answers else RESPONSE
        return prompt * self.reading + samples * response * self.writing


def models() -> dict[str, Model]:
    """The models of the table; a T5 trains all weights, a vision-language model adapters."""
    found = {}
    for name in ("base", "large"):
        size = t5_size({"name": name, "init": f"declare-lab/flan-alpaca-{name}"}, 0)
        assert size is not None
        assert size.encoder is not None
        encoder = size.encoder.layers * size.encoder.weights
        found[f"T5 {name}"] = Model(encoder, _decoder(size), PROMPT, adapter=False)
    for name, published in VLMS.items():
        size = size_of_config(published_config(published))
        layers = size.decoder.layers * size.decoder.weights
        found[name] = Model(layers, _decoder(size), PROMPT + IMAGE, adapter=True)
    return found


def _decoder(size: ModelSize) -> float:
    """Weights of the decoder's layers and of the head."""
    return size.decoder.layers * size.decoder.weights + size.vocabulary * size.decoder.width


def steps(model: Model) -> dict[str, tuple[float, float]]:
    """FLOPs and bytes by step; fits of large batches read weights seldom, so that their bytes are left out."""
    rl = 2 * PPO_EPOCHS * model.fit(QUESTIONS, K)  # the policy and the value model
    fit = FIT_EPOCHS * model.fit(QUESTIONS, 1)
    return {
        "rationale, sft": (fit, 0.0),
        "rollout": model.writes(QUESTIONS, K),
        "ppo": (rl, 0.0),
        "generate": model.writes(QUESTIONS, 1),
        "lora": (FIT_EPOCHS * model.fit(QUESTIONS, 1, lora=True), 0.0),
        "answers": model.writes(EVALUATED, 1, answers=True),
    }


def table() -> str:
    """The least time of each step, on so many cards that share the work without a loss."""
    lines = [
        "| model | step | 10^15 FLOPs | TB read | limit | "
        + " | ".join(_cards(count) for count in GPUS)
        + " |"
    ]
    lines.append("|---|---|---|---|---|" + "---|" * len(GPUS))
    for name, model in models().items():
        for step, (flops, read) in steps(model).items():
            by_flops, by_bytes = flops / FLOPS, read / BYTES
            limit = "bytes" if by_bytes > by_flops else "FLOPs"
            times = " | ".join(_shown(max(by_flops, by_bytes) / count) for count in GPUS)
            shown = f"{read / 1e12:,.0f}" if read else ""
            lines.append(f"| {name} | {step} | {flops / 1e15:,.1f} | {shown} | {limit} | {times} |")
    return "\n".join(lines)


def summary() -> str:
    """The least time of a run of one round, without its baseline, by model."""
    counts = [count for count in GPUS if count <= 8]
    lines = [
        "| model | " + " | ".join(_cards(count) for count in counts) + " |",
        "|---|" + "---|" * len(counts),
    ]
    for name, model in models().items():
        found = steps(model)
        needs = [*found.values(), found["rationale, sft"]]  # both of them
        seconds = sum(max(flops / FLOPS, read / BYTES) for flops, read in needs)
        lines.append(f"| {name} | " + " | ".join(_shown(seconds / count) for count in counts) + " |")
    return "\n".join(lines)


def teacher_table() -> str:
    """The requests of one round and their cost, by the estimate of `teacher.dry_run`; questions have no image."""
    teacher = composed("teacher=anthropic").teacher.build()
    question = Problem(
        "", _characters(PROMPT), ("",), 0, "", "", "", "", None, "train", "", "", "", "", "", ""
    )
    rationale = [_characters(RESPONSE // SENTENCES)] * SENTENCES
    asked = {
        "score": teacher.score_requests(question, [rationale] * K)[0][1],
        "correct": teacher.request(
            "correct", teacher.correct_payload(question, " ".join(rationale), rationale)
        ),
    }
    lines = [
        "| step | requests | 10^6 tokens in | out | USD | USD in Message Batches |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_cost(step, teacher, request) for step, request in asked.items()])


def _characters(tokens: int) -> str:
    return "word" * tokens


def _cost(step: str, teacher: Teacher, request: Request) -> str:
    sent, received = (QUESTIONS * tokens for tokens in teacher.expected_tokens(request))
    usd = teacher.usd(sent, received)
    assert usd is not None
    tokens = f"{sent / 1e6:.1f} | {received / 1e6:.1f}"
    return f"| {step} | {QUESTIONS:,} | {tokens} | {usd:.2f} | {usd / 2:.2f} |"


def _cards(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _shown(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    print(table(), summary(), teacher_table(), sep="\n\n")
