"""How much KV memory is used. Counts whole pages, in tokens; knows nothing of who holds them."""


class KvAccountingError(AssertionError):
    """Books that do not add up: a defect of the caller, never the fault of an input."""


class KvPool:
    """The KV memory of one engine.

    Amounts are tokens and multiples of `page_tokens`. A capacity that is no multiple of it is
    rounded down.
    """

    def __init__(self, capacity_tokens: int, page_tokens: int = 1) -> None:
        self.page_tokens = page_tokens
        self.capacity_tokens = capacity_tokens - capacity_tokens % page_tokens
        self._num_used_tokens = 0

    @property
    def num_used_tokens(self) -> int:
        """Tokens of all pages in use, those of the prefix tree among them."""
        return self._num_used_tokens

    @property
    def num_free_tokens(self) -> int:
        """Tokens that can be allocated at once; evicting from the prefix tree makes more."""
        return self.capacity_tokens - self._num_used_tokens

    def alloc(self, num_tokens: int) -> None:
        """Take pages.

        Raises:
            KvAccountingError: not whole pages, or more than there is.
        """
        self._check_whole(num_tokens)
        if num_tokens > self.num_free_tokens:
            raise KvAccountingError(
                f"{num_tokens} tokens allocated, {self.num_free_tokens} are free"
            )
        self._num_used_tokens += num_tokens

    def free(self, num_tokens: int) -> None:
        """Give pages back.

        Raises:
            KvAccountingError: not whole pages, or more than are in use.
        """
        self._check_whole(num_tokens)
        if num_tokens > self._num_used_tokens:
            raise KvAccountingError(f"{num_tokens} tokens freed, {self._num_used_tokens} are used")
        self._num_used_tokens -= num_tokens

    def _check_whole(self, num_tokens: int) -> None:
        if num_tokens < 0 or num_tokens % self.page_tokens:
            raise KvAccountingError(
                f"{num_tokens} tokens are no number of pages of {self.page_tokens}"
            )
