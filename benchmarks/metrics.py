"""Host work on texts against the usual way of doing it: BLEU, ROUGE-L, sentences and tokens.

    python -m benchmarks metrics --json F

The texts are real solutions and answers of models if `../shared` (or ARES_SHARED) has them, otherwise the sample's. Each
side does the same rows, in turns in this process. "usual" is for BLEU nltk and for ROUGE-L the package `rouge`, as the
ScienceQA evaluation calls them; for sentences syntok on every text; for tokens one text at a time, padded to 512, as the
original's data set does it. Then the totals for ScienceQA: 50,904 rollouts, 21,208 problems.
"""

import argparse
import json
import os
import random
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from syntok import segmenter

from ares.data.sample.generator import generate
from ares.data.scienceqa import read_scienceqa
from ares.evaluation.rationales import bleu, gold_rationale, rouge_l
from ares.text.prompts import build_examples
from ares.text.sentences import sentence_spans, split_sentences
from ares.text.tokenizers import check_represented, load_tokenizer, train_tokenizer
from ares.types import Problem
from benchmarks.turns import alternate, table

SHARED = Path(os.environ.get("ARES_SHARED", Path(__file__).resolve().parents[2] / "shared"))
ROLLOUTS, PROBLEMS = 50_904, 21_208
REPEATS = 3


def main(args: argparse.Namespace) -> dict[str, float]:
    """Prints a table per kind of work, and the totals."""
    problems, pairs, tokenizer = _texts()
    golds, texts = zip(*pairs, strict=True)
    print(f"{len(pairs)} pairs of texts, {sum(map(len, texts)) / len(texts):.0f} characters on average")
    found: dict[str, float] = {}
    for name, ours, usual in (
        ("bleu", lambda: bleu(golds, texts), lambda: nltk_bleu(pairs)),
        ("rouge_l", lambda: rouge_l(golds, texts), lambda: package_rouge(pairs)),
        ("sentences", lambda: [split_sentences(text) for text in texts], lambda: syntok_sentences(texts)),
        (
            "tokens",
            lambda: _encode(tokenizer, problems[: len(pairs)]),
            lambda: _one_by_one(tokenizer, problems[: len(pairs)]),
        ),
    ):
        print(f"\n{name}")
        measured = alternate({"ours": ours, "usual": usual}, repeats=REPEATS)
        numbers = table(measured, dict.fromkeys(measured, len(pairs)))
        found |= {f"{name}/{key}": value for key, value in numbers.items()}
    return found | _totals(problems, texts, tokenizer)


def nltk_bleu(pairs):
    """BLEU-1 and BLEU-4, one after the other."""
    from nltk.translate.bleu_score import sentence_bleu

    words = [[[w for w in re.split(r"\s|\.", text) if w] for text in pair] for pair in pairs]
    for weights in ((1.0,), (0.25,) * 4):
        for reference, hypothesis in words:
            sentence_bleu([reference], hypothesis, weights)


def package_rouge(pairs):
    """ROUGE-L of each pair."""
    from rouge import Rouge

    scorer = Rouge(metrics=["rouge-l"])
    for reference, hypothesis in pairs:
        scorer.get_scores(reference, hypothesis)


def syntok_sentences(texts):
    """The sentences of each text."""
    for text in texts:
        for paragraph in segmenter.analyze(text):
            list(paragraph)


def _encode(tokenizer, examples):
    """What a supervised fit does with its examples before it starts."""
    prompts, targets = [example.prompt for example in examples], [example.target for example in examples]
    for what, texts in (("prompts", prompts), ("target texts", targets)):
        check_represented(tokenizer, texts, what)
        tokenizer(texts, truncation=True, max_length=512)


def _one_by_one(tokenizer, examples):
    for example in examples:
        for text in (example.prompt, example.target):
            tokenizer(text, truncation=True, max_length=512, padding="max_length", return_tensors="pt")


def _totals(problems, texts, tokenizer) -> dict[str, float]:
    examples = [problems[row % len(problems)] for row in range(PROBLEMS)]
    rows = [texts[row % len(texts)] for row in range(ROLLOUTS)]
    ids = {text: tokenizer(text, truncation=True, max_length=512)["input_ids"] for text in set(rows)}
    chunks = [([ids[text] for text in rows[start::2]], tokenizer) for start in range(2)]
    found: dict[str, list[float]] = {}
    with ProcessPoolExecutor(2) as pool:
        for _ in range(3):
            halves = list(pool.map(_spans, chunks))
            found.setdefault("sentences_of_50904_rollouts_s", []).append(max(halves))
            start = time.process_time()
            _encode(tokenizer, examples)
            found.setdefault("tokens_of_21208_problems_s", []).append(time.process_time() - start)
    print(
        "\nprocessor seconds, median (lowest to highest); sentences with the token each ends on, the longer of 2 processes"
    )
    for name, seconds in found.items():
        print(f"{name:32}{statistics.median(seconds):8.1f} ({min(seconds):.1f} to {max(seconds):.1f})")
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _spans(task) -> float:
    """The processor seconds that the sentences of a list of responses take."""
    rows, tokenizer = task
    start = time.process_time()
    for ids in rows:
        sentence_spans(tokenizer, ids)
    return time.process_time() - start


def _texts():
    """Examples of problems, pairs of a gold rationale and a similar text, and a tokenizer."""
    root = SHARED / "data/scienceqa"
    if root.is_dir():
        problems, _ = read_scienceqa(str(root))
        written = json.loads((root / "test_outputs_llava_13b.json").read_text())["outputs"]
        tokenizer = load_tokenizer(SHARED / "t5_tokenizer")
        print(f"real texts: {root}")
    else:
        problems = {item.problem.pid: item.problem for item in generate({"train": 1350})}
        written = {}
        tokenizer = None
        print("generated texts: the sample")
    return _examples(problems, written, tokenizer)


def _examples(problems: dict[str, Problem], written: dict[str, str], tokenizer):
    known = [pid for pid, problem in problems.items() if gold_rationale(problem)]
    examples = list(build_examples(problems, known, "QCM-E").values())
    tokenizer = tokenizer or train_tokenizer((e.target for e in examples), vocab_size=4096)
    pairs = [(gold_rationale(problems[pid]), written.get(pid) or _changed(problems[pid])) for pid in known]
    return examples, pairs, tokenizer


def _changed(problem: Problem) -> str:
    """A gold rationale with its sentences shuffled and every tenth word left out, like a policy's."""
    draw = random.Random(problem.pid)
    text = gold_rationale(problem)
    sentences = [text[span.start : span.end] for span in split_sentences(text)]
    draw.shuffle(sentences)
    return " ".join(word for word in " ".join(sentences).split() if draw.random() > 0.1)
