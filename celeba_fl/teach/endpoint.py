"""Requests to an OpenAI-compatible endpoint, one for each image, and their outcomes.

Retries of what passes (rate limits, with their Retry-After, errors of the server, connections) are
those of the `openai` package.
"""

import base64
from dataclasses import dataclass
from typing import Any

from celeba_fl.common.errors import InputError, printable
from celeba_fl.data.images import media_type
from celeba_fl.teach.questions import (
    INSTRUCTIONS,
    SCHEMA,
    UNSURE,
    Answer,
    is_refusal,
    parse_answers,
)

RETRIES = 5
# An answer takes about 600; a model that reasons writes more, and one that rambles must end.
MAX_TOKENS = 4096
# More tokens than any request or answer has.
ABSURD = 10**6
# The length from which a key is a secret; shorter ones are words for servers that ask for none.
SECRET = 8


@dataclass(frozen=True)
class Reply:
    """The outcome of a request."""

    answers: tuple[Answer, ...] | None  # in the order of `ATTRIBUTES`; None: cannot be read
    why: str = ""  # why there is none, or why the teacher refused; empty for an answer
    tokens: tuple[int, int] | None = None  # of request and answer; None: the endpoint does not say
    failed: bool = False  # whether the endpoint took the request for a wrong one, or broke at it


class Endpoint:
    """A vision model to ask, with a timeout in seconds; an async context manager.

    Without `base_url`, the rules of the `openai` package hold: OPENAI_BASE_URL, else OpenAI's own.

    Raises
    ------
    InputError
        If the `openai` package or the key, OPENAI_API_KEY, is missing.
    """

    def __init__(self, model: str, base_url: str | None, timeout: float) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError(
                "celeba-fl teach needs the package openai: pip install 'celeba-fl[teach]'"
            ) from error
        self.model = model
        try:
            self._client = openai.AsyncOpenAI(
                base_url=base_url,
                timeout=timeout,
                max_retries=RETRIES,
                # Faces go where the user sends them, and to no place that is named there.
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
        except openai.OpenAIError as error:
            raise InputError(
                "no key for the endpoint: set the environment variable OPENAI_API_KEY (to any word "
                "for a server that asks for none)"
            ) from error
        self.base_url = str(self._client.base_url)

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, image: bytes) -> Reply:
        """Ask for all attributes of an encoded image.

        Raises
        ------
        BadImageError
            If it is not an image.
        InputError
            If no further request would do better: a wrong key, model or address, an endpoint out
            of reach, or limits that retries do not get over. What only this image may be to blame
            for is a reply.
        """
        import openai

        url = f"data:{media_type(image)};base64,{base64.b64encode(image).decode()}"
        picture: Any = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        schema: Any = {"name": "attributes", "strict": True, "schema": SCHEMA}
        try:
            completion = await self._client.chat.completions.create(
                model=self.model,
                messages=[
                    {"role": "system", "content": INSTRUCTIONS},
                    {"role": "user", "content": [picture]},
                ],
                response_format={"type": "json_schema", "json_schema": schema},
                max_completion_tokens=MAX_TOKENS,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if error.code in ("content_filter", "content_policy_violation"):
                return Reply(UNSURE, self._said(error))
            return Reply(None, self._said(error), failed=True)
        except (openai.InternalServerError, openai.APITimeoutError) as error:
            return Reply(None, self._advice(error), failed=True)
        except openai.OpenAIError as error:
            raise InputError(f"{self.base_url}: {self._advice(error)}") from None
        except ValueError as error:  # of the package, where a body breaks off
            return Reply(None, f"the answer is not JSON: {error}", failed=True)
        return self._read(completion)

    def _read(self, completion: Any) -> Reply:
        try:
            choice = completion.choices[0]
            reason, message = choice.finish_reason, choice.message
            text, refusal = message.content or "", message.refusal
        except (AttributeError, IndexError, TypeError):
            raise InputError(
                f"{self.base_url} answers with something else than a chat completion; give the "
                f"address of the API in --base-url, which ends in /v1 as a rule"
            ) from None
        tokens = _tokens(getattr(completion, "usage", None), text)
        if not refusal and isinstance(text, str) and is_refusal(text):
            refusal = text[:100]
        if refusal or reason == "content_filter":
            return Reply(UNSURE, str(refusal or reason), tokens)
        if reason == "length":
            return Reply(None, f"cut off after {MAX_TOKENS} tokens", tokens)
        try:
            return Reply(parse_answers(text), "", tokens)
        except ValueError as error:
            return Reply(None, str(error), tokens)

    def _advice(self, error: Exception) -> str:
        """Explain an error, and say what to do."""
        import openai

        reason = self._said(error)
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return f"the key is not accepted ({reason}); set OPENAI_API_KEY"
            case openai.NotFoundError():
                return f"not found ({reason}); see --model {self.model!r} and --base-url"
            case openai.RateLimitError():
                return f"the rate limit stays, after {RETRIES} retries ({reason})"
            case openai.APITimeoutError():
                return f"no answer in time, after {RETRIES} retries; see --timeout"
            case openai.APIStatusError() if 300 <= error.status_code < 400:
                place = error.response.headers.get("location", "")[:200]
                return f"redirects to {place!r}, where no image goes; see --base-url"
            case openai.APIConnectionError():
                return f"cannot be reached, after {RETRIES} retries ({reason}); see --base-url"
        return reason

    def _said(self, error: Exception) -> str:
        """The error's text, from which a server's echo of the key is taken out."""
        text = " ".join(str(error.__cause__ or error).split())
        key = self._client.api_key.strip()
        return printable((text.replace(key, "***") if len(key) >= SECRET else text)[:300])


def _tokens(usage: Any, text: str) -> tuple[int, int] | None:
    """The tokens of a request and its answer; None if the endpoint tells nothing plausible."""
    counts = [getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion")]
    tokens_in, tokens_out = (n if type(n) is int and 0 <= n < ABSURD else None for n in counts)
    if not tokens_in or tokens_out is None or (text and not tokens_out):
        return None
    return tokens_in, tokens_out
