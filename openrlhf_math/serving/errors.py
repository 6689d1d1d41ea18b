"""What is told to a client when there is no answer, in OpenAI's form."""


class ApiError(Exception):
    """Ends a request; the app makes a response of it.

    status: of HTTP. param: the field at fault, as a path. code: for programs.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""
