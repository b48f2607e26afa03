"""A text is published once somebody approves it: first the reviewer is asked, then the manager.

That is an escalation: who does not answer in time has a link that is refused from then on, and the
next in line gets another. Who was asked when, and who answered, is in the history.
"""

from __future__ import annotations

from pydantic import BaseModel

from roost import FailWork, Snapshot, WorkItem, current_step

LADDER = ("reviewer", "manager")


class Verdict(BaseModel):
    """What is asked for."""

    approved: bool
    comment: str = ""


class Review:
    """Payload: {"text": …}, and {"hours": …} until the next in line is asked."""

    engine_id = "review"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="ask", data={"asked": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        context = current_step()
        if context.signals:
            [answer] = context.signals
            verdict = Verdict.model_validate(answer.data)
            note = f"{answer.actor} {'approved' if verdict.approved else 'declined'}"
            return snapshot.finish(data={"published": verdict.approved, "by": answer.actor}, note=note)
        asked = snapshot.data["asked"]
        if len(asked) == len(LADDER):
            raise FailWork("nobody answered")
        ask = context.ask(LADDER[len(asked)], reply=Verdict)
        await context.once("mail", lambda: self.mail(ask.name, ask.link))
        seconds = item.payload.get("hours", 24) * 3600
        late = f"{asked[-1]} did not answer in time; " if asked else ""
        return snapshot.next(
            "decide",
            data={"asked": [*asked, ask.name]},
            wait_for=ask.wait(timeout_seconds=seconds),
            note=f"{late}{ask.name} is asked",
        )

    async def mail(self, to: str, link: str) -> None:
        """Stands for what sends a mail."""
        current_step().log.info("%s is asked", to)
