"""A slow Teacher."""

import time

from ares.teachers.base import Reply, Request
from ares.teachers.offline.oracle import OracleTeacher

SECONDS = 25.0


class SlowTeacher(OracleTeacher):
    """The oracle, whose first answer takes `SECONDS`."""

    waited = False

    async def send(self, request: Request) -> Reply:
        if not self.waited:
            time.sleep(SECONDS)
            self.waited = True
        return await super().send(request)
