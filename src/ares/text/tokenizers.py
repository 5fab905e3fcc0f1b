"""Loads a tokenizer, or trains one on the texts of a data set for a model that is trained from scratch."""

import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ares.types import AresError

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1, 2 as T5 has them
SPACE = "▁"
MOST = 0.5  # share of unknown characters from which texts are refused
_FILES = (
    "tokenizer.json",
    "spiece.model",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
ALPHABET = string.digits + string.ascii_letters + string.punctuation + "\n" + SPACE


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a tokenizer with T5's conventions.

    Byte-pair encoding of words with the space before them, so that frequent words become one token, and so does
    the letter of a choice, as in "(B)"; digits and other punctuation marks are always tokens of their own. `</s>`
    (1) is appended to every encoded text, padding is 0, characters neither in ASCII nor in `texts` become `<unk>` (2).
    Decoding returns every other text exactly, white space included. The same texts give the same tokenizer.

    Args:
        texts: iterated over once.
        vocab_size: an upper bound; short texts give fewer entries.

    Raises:
        AresError: `vocab_size` is too small for the special tokens and the characters.
    """
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, EOS, UNKNOWN],
        initial_alphabet=sorted(ALPHABET),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() > vocab_size:
        raise AresError(
            f"tokenizer.vocab_size is {vocab_size}, fewer than the special tokens and characters of the texts: "
            f"write at least {tokenizer.get_vocab_size()}."
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, padding_side="right"
    )
    turn_off_cache(found)
    return found


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    # The normalizer prepends the space of the first word: unlike the pre-tokenizer it does so before a space too.
    tokenizer.normalizer = normalizers.Prepend(SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never"),
            pre_tokenizers.Split(Regex(rf"{SPACE}?\([A-Z]\)|\d|[^\w{SPACE}]"), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    return tokenizer


def unrepresented(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[int, float]:
    """How many of the texts have characters that become the unknown token, and the share of all characters that do.

    White space does not count.
    """
    unknown = tokenizer.unk_token_id
    if (
        unknown is None or not tokenizer.is_fast or not texts
    ):  # bytes represent everything; slow ones have no offsets
        return 0, 0.0
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    affected = lost = 0
    for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if unknown in ids:
            spans = [span for token, span in zip(ids, offsets, strict=True) if token == unknown]
            missing = sum(len("".join(text[start:end].split())) for start, end in spans)
            affected += missing > 0
            lost += missing
    total = sum(len("".join(text.split())) for text in texts)
    return affected, lost / max(total, 1)


def check_represented(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], what: str) -> str | None:
    """A warning about the share of the texts' characters that the tokenizer cannot represent, None without any.

    `what` the texts are, in the plural. Raises AresError where most are lost: a model would be trained on unknown tokens.
    """
    affected, share = unrepresented(tokenizer, texts)
    if not affected:
        return None
    found = (
        f"{affected:,} of {len(texts):,} {what} have characters that the tokenizer cannot represent, {share:.1%} of "
        "all characters"
    )
    if share > MOST:
        raise AresError(
            f"{found}; choose a model whose tokenizer knows their language, or set tokenizer.path."
        )
    return f"{found}; they become {tokenizer.unk_token}."


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer in the folder `path`, or that of the model with this hub id.

    Raises:
        AresError: there is none, it knows no text, or it has no padding or no end-of-sequence token.
    """
    unusable = (
        f"No tokenizer can be loaded from {path}; correct the path (model.init, tokenizer.path), or set tokenizer.path "
        "to a folder with one."
    )
    if Path(path).is_dir() and not any((Path(path) / name).is_file() for name in _FILES):
        # transformers would make up an empty vocabulary from config.json.
        raise AresError(
            f"{path} has no tokenizer ({', '.join(_FILES[:2])}, ...): set tokenizer.path to a folder with one."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        turn_off_cache(tokenizer)
        check_vocabulary(tokenizer, path)
    except AresError:
        raise
    except (
        BaseException
    ) as error:  # the libraries raise whatever a broken file leads to; Rust's panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise AresError(unusable) from error
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise AresError(
            f"The tokenizer in {path} has no pad or no end-of-sequence token: use one of a T5 model."
        )
    return tokenizer


def turn_off_cache(tokenizer: PreTrainedTokenizerBase) -> None:
    """Stops byte-pair encoding from caching words: the memory, up to 4 MB, would outlive the tokenizer.

    Each step loads one. Encoding takes a fifth longer without it, 0.1 ms for a prompt.
    """
    if tokenizer.is_fast and isinstance(tokenizer.backend_tokenizer.model, models.BPE):
        tokenizer.backend_tokenizer.model._resize_cache(0)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Raises AresError for a tokenizer that cannot write English: transformers makes up what its files lack."""
    text = "The answer is (A)."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids or unrepresented(tokenizer, [text])[1] > MOST:
        raise AresError(
            f"The tokenizer in {path} has no vocabulary: copy its files again, or set tokenizer.path."
        )
