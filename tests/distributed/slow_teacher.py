"""A slow Teacher."""

import time

from ares.teachers.base import Reply, Request
from ares.teachers.offline.reference import ReferenceTeacher

SECONDS = 25.0


class SlowTeacher(ReferenceTeacher):
    """The reference Teacher, whose first answer takes `SECONDS`."""

    waited = False

    async def send(self, request: Request) -> Reply:
        if not self.waited:
            time.sleep(SECONDS)
            self.waited = True
        return await super().send(request)
