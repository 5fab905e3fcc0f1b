"""The error of a reply that cannot be used."""


class FeedbackError(Exception):
    """A reply that cannot be used; `reason` says why in a few words, `reply` is the reply's text if there is one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = ""
