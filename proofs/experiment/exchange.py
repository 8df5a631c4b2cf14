"""The mock exchange of one case: starts it, sends it commands and ends it, and records all of that as evidence."""

import json
import signal
import socket

from proofs.host.shell import Host
from proofs.mock_exchange import MockExchange
from proofs.verdict import Json


class Exchange:
    """A child process that ends with its parent. settings: those of MockExchange."""

    def __init__(self, host: Host, name: str, **settings: Json) -> None:
        self.host, self.name = host, name
        host.recorder.intent(f"start exchange {name}", scope=host.scope, data=settings)
        self._mock = MockExchange(**settings)
        self._mock.start()
        self.port, self.pid = self._mock.port, self._mock.pid
        host.note("exchange", {"name": name, "pid": self.pid, **self._mock.ready})

    def url(self) -> str:
        return self._mock.url("binance", host="127.0.0.1")

    def tell(self, command: str, **arguments: Json) -> dict[str, Json]:
        """Carry out a command; the answer has at_ms and mono_ns of when it took effect. Raises ControlError."""
        self.host.recorder.intent(f"exchange {self.name}: {command}", scope=self.host.scope, data=arguments)
        answer = self._mock.command(command, **arguments)
        self.host.note("exchange said", {"name": self.name, **answer})
        return answer

    def stats(self, quiet: bool = False) -> dict[str, Json]:
        """Everything that it counted. Raises ControlError when it does not answer (frozen, ended)."""
        answer = self._mock.stats()
        if not quiet:
            self.host.note("exchange stats", {"name": self.name, **answer})
        return answer

    def record_trades(self) -> str:
        """Record every trade that it sent: a JSON line of connection, id, price, size, ms UTC of each.

        Raises ControlError as `stats` does.
        """
        text = "\n".join(json.dumps(trade) for trade in self._mock.command("trades")["trades"])
        self.host.recorder.write("trades sent", scope=self.host.scope, stdout=text, data={"name": self.name})
        return text

    def thaw(self) -> None:
        self.host.recorder.intent(f"kill -CONT {self.pid} (exchange {self.name})", scope=self.host.scope)
        self._mock.kill(signal.SIGCONT)

    def freeze(self) -> None:
        self.host.recorder.intent(f"kill -STOP {self.pid} (exchange {self.name})", scope=self.host.scope)
        self._mock.kill(signal.SIGSTOP)

    def end(self) -> None:
        self._mock.kill(signal.SIGKILL)  # its counts are recorded already; this ends it at once, frozen or not
        self._mock.stop()


def refuses(port: int) -> bool:
    """Whether no process listens on that port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False
