"""Coverage-guided fuzzing of every decoder, with atheris (libFuzzer), outside CI.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris msgspec==0.22.0 websocket-client==1.9.2
    PYTHONPATH=. /tmp/fuzz/bin/python -m tests.fuzz.decoders /tmp/fuzz/corpus -max_total_time=300

It starts from the frames of tests/exchanges. A failing input is written to crash-* in the current folder; add it to
the examples of tests/property/test_decoder.py and to the table of its exchange.
"""

import json
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped, unused-ignore]

with atheris.instrument_imports(include=["hybrid_engine.exchanges"]):
    from hybrid_engine.exchanges import EXCHANGES, decode

from tests.exchanges.table import TABLES, text
from tests.support.decoded import check


def one_input(payload: bytes) -> None:
    for exchange in EXCHANGES.values():
        result = check(decode(exchange, payload))
        run = exchange.decode_run([payload])
        if run is not None:
            assert [(list(one.trades), list(one.marks)) for one in run] == [(list(result.trades), list(result.marks))]
            assert not result.rejections


def seeds() -> list[bytes]:
    result = []
    for table in TABLES.values():
        rows = [*table.trades, *table.without_trades, *table.undecodable]
        result += [text(row[0]) for row in rows] + [text(frame) for frame in table.ignored]
    return result


def words() -> str:
    """libFuzzer's dictionary: the keys and texts that occur in frames."""
    names: set[str] = set()

    def walk(part: object) -> None:
        if isinstance(part, dict):
            names.update(part)
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)
        elif isinstance(part, str) and len(part) < 20:
            names.add(part)

    for seed in seeds():
        walk(json.loads(seed))
    return "".join(
        f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in json.dumps(name).encode())}"\n' for name in sorted(names)
    )


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    dictionary = corpus.parent / "words"
    dictionary.write_text(words())
    atheris.Setup([sys.argv[0], str(corpus), f"-dict={dictionary}", *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
