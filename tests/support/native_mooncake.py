"""A stand-in for Mooncake's native engine that crashes, as an assertion, where that one does."""

from collections import deque
from collections.abc import Callable, Sequence


class FakeNative:
    """Records what it is asked; transfers end as `statuses` says, one entry for each question."""

    def __init__(self) -> None:
        self.statuses: deque[int] = deque()
        self.refuses = False
        self.registered: dict[int, int] = {}
        self.locations: list[str] = []
        self.register_code = 0
        self.submitted: list[tuple[str, str, int, int, int]] = []
        self.on_open: Callable[[], object] = lambda: None
        self._next_id = 1
        self._live: set[int] = set()

    def initialize(self, host: str, metadata: str, protocol: str, device: str, /) -> int:
        return 0

    def get_rpc_port(self) -> int:
        return 15000

    def get_local_topology(self) -> str:
        return ""

    def batch_register_memory(
        self, addresses: Sequence[int], sizes_bytes: Sequence[int], location: str, /
    ) -> int:
        self.locations.append(location)
        if self.register_code == 0:
            self.registered |= dict(zip(addresses, sizes_bytes, strict=True))
        return self.register_code

    def batch_unregister_memory(self, addresses: Sequence[int], /) -> int:
        for address in addresses:
            self.registered.pop(address, None)
        return 0

    def batch_transfer_async_read(
        self,
        session: str,
        addresses: Sequence[int],
        remote_addresses: Sequence[int],
        sizes_bytes: Sequence[int],
        /,
    ) -> int:
        return self._submit("read", session, addresses, remote_addresses, sizes_bytes)

    def batch_transfer_async_write(
        self,
        session: str,
        addresses: Sequence[int],
        remote_addresses: Sequence[int],
        sizes_bytes: Sequence[int],
        /,
    ) -> int:
        return self._submit("write", session, addresses, remote_addresses, sizes_bytes)

    def transfer_check_status(self, transfer_id: int, /) -> int:
        assert transfer_id in self._live, "a segmentation fault"
        status = self.statuses.popleft() if self.statuses else 1
        if status != 0:
            self._live.remove(transfer_id)
        return status

    def send_probe(self, session: str, /) -> int:
        self.on_open()
        return -102 if self.refuses else 0

    def _submit(
        self,
        operation: str,
        session: str,
        addresses: Sequence[int],
        remote_addresses: Sequence[int],
        sizes_bytes: Sequence[int],
    ) -> int:
        # An id of more entries would count as done with the first of them.
        (address,), (remote_address,), (size_bytes,) = addresses, remote_addresses, sizes_bytes
        self.on_open()
        if self.refuses:
            return 0
        self.submitted.append((operation, session, address, remote_address, size_bytes))
        transfer_id = self._next_id
        self._next_id += 1
        self._live.add(transfer_id)
        return transfer_id
