"""Where HTTP/1 messages begin and end on a connection that is passed on unchanged (RFC 9112, section 6).

A connection that is kept open between two requests may go on with another server: nothing of it is under way.
"""

from __future__ import annotations

from collections import deque

#: Bytes of a message's head, or of a line within a chunked body, beyond which a connection is no longer followed.
_LONGEST = 1 << 16


class LostError(Exception):
    """What came is not HTTP/1, or leaves it: from here on nobody knows where a message ends."""


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise LostError
        key = name.strip().lower()
        found[key] = found[key] + b", " + value.strip() if key in found else value.strip()
    return found


def _closes(first: bytes, fields: dict[bytes, bytes]) -> bool:
    """Whether the connection ends after this message."""
    said = fields.get(b"connection", b"").lower()
    return b"close" in said or (b"HTTP/1.0" in first and b"keep-alive" not in said)


class _Way:
    """One direction of a connection; what a head says of its body is up to the direction."""

    def __init__(self) -> None:
        self.whole = 0
        self._lines: list[bytes] = []
        self._line = b""
        self._size = 0
        self._left = 0
        self._state = "head"

    @property
    def at_rest(self) -> bool:
        """Whether nothing of a message has come that is not whole."""
        return self._state == "head" and not self._lines and not self._line

    def feed(self, data: bytes) -> None:
        """Follow what was sent. Raises LostError."""
        at = 0
        while at < len(data):
            if self._state in ("body", "chunk"):
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                if not self._left:
                    self._end_of_data()
            elif self._state == "until the end":
                return
            else:
                at = self._to_line_end(data, at)

    def _end_of_data(self) -> None:
        if self._state == "body":
            self._done()
        else:
            self._state = "after chunk"

    def _to_line_end(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        self._line += data[at:] if end < 0 else data[at:end]
        if self._size + len(self._line) > _LONGEST:
            raise LostError
        if end < 0:
            return len(data)
        line, self._line = self._line.rstrip(b"\r"), b""
        self._on_line(line)
        return end + 1

    def _on_line(self, line: bytes) -> None:
        if self._state == "head":
            if line:
                self._lines.append(line)
                self._size += len(line)
            elif self._lines:  # empty lines before a message are to be overlooked
                lines, self._lines, self._size = self._lines, [], 0
                self._begin(self.body_of(lines))
        elif self._state == "size":
            digits = line.split(b";")[0].strip()
            if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
                raise LostError
            self._left = int(digits, 16)
            self._state = "chunk" if self._left else "trailer"
        elif self._state == "after chunk":
            if line:
                raise LostError
            self._state = "size"
        elif not line:  # the end of the trailer
            self._done()

    def _begin(self, body: int | str) -> None:
        if body == "chunked":
            self._state = "size"
        elif isinstance(body, str):
            self._state = "until the end" if body == "until the end" else "head"
        elif body:
            self._left, self._state = body, "body"
        else:
            self._done()

    def _done(self) -> None:
        self.whole += 1
        self._state = "head"

    def body_of(self, lines: list[bytes]) -> int | str:
        """Bytes of the body that follows a head; "chunked", "until the end", or "none yet" for an interim answer."""
        raise NotImplementedError

    @staticmethod
    def length(fields: dict[bytes, bytes], otherwise: int | str) -> int | str:
        """What the fields of a head say of its body."""
        coding = fields.get(b"transfer-encoding", b"").lower()
        if coding:
            if coding.split(b",")[-1].strip() != b"chunked":
                return "until the end"
            return "chunked"
        said = fields.get(b"content-length")
        if said is None:
            return otherwise
        lengths = {one.strip() for one in said.split(b",")}
        if len(lengths) != 1 or not said.split(b",")[0].strip().isdigit():
            raise LostError
        return int(lengths.pop())


class _Requests(_Way):
    """What the client sends."""

    def __init__(self) -> None:
        super().__init__()
        self.methods: deque[bytes] = deque()
        self.closing = False

    def body_of(self, lines: list[bytes]) -> int | str:
        words, fields = lines[0].split(), _fields(lines)
        if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or words[0] == b"CONNECT" or b"upgrade" in fields:
            raise LostError
        self.methods.append(words[0])
        self.closing = self.closing or _closes(words[2], fields)
        return self.length(fields, 0)


class _Answers(_Way):
    """What the server sends."""

    def __init__(self, requests: _Requests) -> None:
        super().__init__()
        self._requests = requests

    def body_of(self, lines: list[bytes]) -> int | str:
        words = lines[0].split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or words[1] == b"101":
            raise LostError
        if words[1].startswith(b"1"):
            return "none yet"
        if not self._requests.methods:
            raise LostError
        method, fields = self._requests.methods.popleft(), _fields(lines)
        self._requests.closing = self._requests.closing or _closes(words[0], fields)
        if method == b"HEAD" or words[1] in (b"204", b"304"):
            return 0
        return self.length(fields, "until the end")


class Exchange:
    """Requests and answers of one connection."""

    def __init__(self) -> None:
        self._requests = _Requests()
        self._answers = _Answers(self._requests)
        self._lost = False

    def _feed(self, way: _Way, data: bytes) -> None:
        if not self._lost:
            try:
                way.feed(data)
            except LostError:
                self._lost = True

    def request(self, data: bytes) -> None:
        """What the client sent."""
        self._feed(self._requests, data)

    def answer(self, data: bytes) -> None:
        """What the server sent."""
        self._feed(self._answers, data)

    @property
    def between(self) -> bool:
        """Whether every request that began is whole and answered, and another may follow."""
        requests, answers = self._requests, self._answers
        return (not self._lost and not requests.closing and requests.at_rest and answers.at_rest
                and requests.whole == answers.whole)  # fmt: skip
