"""The model under a condition, as lm-evaluation-harness takes a model.

This module is imported once the harness is known to be there. Texts become tokens as the harness's own `HFLM` makes
them, with one difference: BOS, where a setup's windows start with it, is given and never predicted, also by
`loglikelihood_rolling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from qroar_core.errors import BadSpec, BadText
from qroar_core.harness.generation import Prompt, generate
from qroar_core.harness.log_likelihoods import Answer, Request, log_likelihoods
from qroar_core.models.bos import bos_id, opening
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import Bos

NEW_TOKENS = 256  # of an answer where a task does not say, as HFLM
GREEDY = {"do_sample", "temperature", "top_p", "top_k", "min_p"}  # without sampling they change nothing


class ConditionLM(TemplateLM):
    """A loaded model under one condition; `lm_eval.simple_evaluate(model=...)` takes it too.

    Args:
        length: tokens the model reads at most; what a length-dependent interpolation is set for, as in `evaluate`.
        bos: whether every text starts with BOS.
        truncate: cut what does not fit from the left and count it in `cut`; else it is refused.
        batch: requests read at once; None: as many as have 2,048 tokens together.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        condition: Condition,
        length: int,
        *,
        bos: Bos = "auto",
        truncate: bool = False,
        batch: int | None = None,
        chunk: int = 512,
        what: str = "",
        on_step: OnStep = no_progress,
    ) -> None:
        super().__init__()
        self.loaded, self.condition, self.max_length = loaded, condition, length
        self.tokenizer: Any = loaded.tokenizer
        self.opening = opening(loaded.tokenizer, bos)
        self.truncate, self.batch, self.chunk, self.what, self.on_step = truncate, batch, chunk, what, on_step
        self.cut: dict[str, list[int]] = {}  # task -> tokens cut from each of its requests that did not fit
        self.pieces: dict[str, list[int]] = {}  # task -> windows of each text that one window does not hold
        self._task_names: list[str] = []

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text; without one what starts it."""
        end = self.tokenizer.eos_token_id
        return self.prefix_token_id if end is None else end

    @property
    def prefix_token_id(self) -> int:
        """What the first token of a text is predicted from: BOS, or the token that ends a text.

        Raises:
            BadSpec: the tokenizer has neither.
        """
        for token in (*self.opening.ids, bos_id(self.tokenizer), self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise BadSpec("the tokenizer has neither BOS nor EOS, from which a text's first token could be predicted")

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its own caches by."""
        return self.loaded.source.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; with BOS in front where windows have it and the text does not start with it already."""
        ids = self.tokenizer.encode(string, add_special_tokens=False, verbose=False)
        if add_special_tokens is False or (self.opening.ids and ids[:1] == list(self.opening.ids)):
            return ids
        return [*self.opening.ids, *ids]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt that the tokenizer's chat template writes.

        Raises:
            BadText: a template that cannot be applied.
        """
        try:
            return self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except Exception as error:  # of the template's own code
            do = "drop --chat, or choose a model whose template takes these messages"
            raise BadText(f"the chat template cannot be applied: {error}", where="--chat", do=do) from error

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Answer]:
        """ln p of each continuation behind its context, nats, and whether it is what greedy decoding chooses."""
        self._task_names = [request.task_name or "" for request in requests]
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[Answer]:
        asked = []
        for task, (_, context, continuation) in zip(self._task_names, requests, strict=True):
            if not continuation:
                raise BadText("a continuation has no token", where=f"--tasks {task}", do="check the task's choices")
            over = len(context) + len(continuation) - 1 - self.max_length
            if len(continuation) > self.max_length:
                raise self._too_long(task, len(continuation), "an answer alone")
            asked.append(Request(self._fitting(task, context, over), tuple(continuation)))
        return self._scored(asked, "log-likelihoods")

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """ln p of each whole text, nats; one longer than the length is read in windows that fill it, as HFLM does."""
        asked: list[Request] = []
        of: list[int] = []
        for i, request in enumerate(requests):
            (text,) = request.args
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pairs = [Request(tuple(before), tuple(new)) for before, new in map(make_disjoint_window, windows)]
            asked += pairs
            of += [i] * len(pairs)
            if len(pairs) > 1:
                self.pieces.setdefault(request.task_name or "", []).append(len(pairs))
        sums = [0.0] * len(requests)
        for i, (value, _) in zip(of, self._scored(asked, "texts"), strict=True):
            sums[i] += value
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """The greedy answer to each prompt, up to the first of the task's stop texts."""
        asked: list[Prompt] = []
        for request in requests:
            text, given = request.args
            task = request.task_name or ""
            kwargs = normalize_gen_kwargs(given, NEW_TOKENS)
            until = handle_stop_sequences(kwargs.pop("until", None), eos=self.tokenizer.eos_token)
            tokens = int(kwargs.pop("max_gen_toks"))
            self._require_greedy(task, kwargs)
            prompt = self.tok_encode(text) or [self.prefix_token_id]
            if tokens >= self.max_length:
                raise self._too_long(task, tokens + 1, "an answer alone")
            over = len(prompt) + tokens - self.max_length
            asked.append(Prompt(self._fitting(task, prompt, over), tokens, tuple(word for word in until if word)))
        different = list(dict.fromkeys(asked))  # greedy: a repeated prompt has the same answer

        def on_prompt(done: int) -> None:
            said = f"{self.what}, answers: {done} of {len(different)}"
            self.on_step(Step("lm-eval", done, len(different), said))

        found = generate(
            self.loaded,
            self.condition,
            different,
            self.max_length,
            batch=self.batch,
            chunk=self.chunk,
            on_prompt=on_prompt,
        )
        answers = dict(zip(different, found, strict=True))
        return [
            postprocess_generated_text(
                self.tokenizer.decode(answers[one], skip_special_tokens=True), list(one.until), None
            )
            for one in asked
        ]

    def _scored(self, asked: Sequence[Request], kind: str) -> list[Answer]:
        total, read = sum(len(one.read) for one in asked), 0

        def on_read(tokens: int) -> None:
            nonlocal read
            self.on_step(Step("lm-eval", read, total, f"{self.what}, {len(asked):,} {kind}"))
            read += tokens

        return log_likelihoods(
            self.loaded, self.condition, asked, self.max_length, batch=self.batch, chunk=self.chunk, on_read=on_read
        )

    def _fitting(self, task: str, ids: Sequence[int], over: int) -> tuple[int, ...]:
        """`ids` without the first `over`, where they may be cut.

        Raises:
            BadSpec: they may not.
        """
        if over <= 0:
            return tuple(ids)
        if not self.truncate or over >= len(ids):
            raise self._too_long(task, self.max_length + over, "a request")
        self.cut.setdefault(task, []).append(over)
        start = len(self.opening.ids) if tuple(ids[: len(self.opening.ids)]) == self.opening.ids else 0
        return tuple((*ids[:start], *ids[start + over :]))

    def _too_long(self, task: str, tokens: int, what: str) -> BadSpec:
        do = f"give --length {tokens} or more"
        if what == "a request":
            do += ", or --truncate to cut what stands before it from the left"
        return BadSpec(f"{what} of {task} takes {tokens} tokens, more than {self.max_length}", where="--length", do=do)

    def _require_greedy(self, task: str, kwargs: Any) -> None:
        if kwargs.get("do_sample") and kwargs.get("temperature"):
            raise BadSpec(f"{task} samples its answers", where="--tasks", do="set do_sample: false in its YAML")
        if other := sorted(set(kwargs) - GREEDY):
            raise BadSpec(
                f"{task} asks for {', '.join(other)}, which greedy decoding has not",
                where="--tasks",
                do="leave it out in its YAML",
            )
