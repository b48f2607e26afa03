"""The accounts port on DynamoDB, in the table of claims: a charge is one transaction and a query.

    subject                      part          what
    NAMESPACE/a#ROOT             sum#0 … #7    what of a family's account was charged by shard
    NAMESPACE/a#ROOT             sum#limits    what an operator allows it, and which setting that is
    NAMESPACE/d#0 … #7           sum#0 … #7    the same of a day of the namespace: the slot is the
                                               day modulo 8, and holds the newest such day
    NAMESPACE/w#WORK             charged       up to which position a work item was charged

The sums of a day end by themselves, when nobody asks for them any more: they have `expires_at`.
All else is deleted with the work (`forgetting`), or is an operator's.

A transaction moves `charged` on, on the condition that it is lower, and adds to the sums; so
each charge counts once, whoever makes it again. Additions don't depend on what was read, and
are spread over shards by work item, so that members of one account seldom meet in one item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from roost.errors import StorageUnavailable
from roost.journal.accounts import DAY_SECONDS, DAYS_KEPT, Account, Balance, Charge
from roost.journal.values import Amounts
from roost.names import NAMESPACE_MARK
from roost.storage.aws.clients import Aws
from roost.storage.aws.lines import work_subject
from roost.storage.aws.names import EXPIRES_AT, shard_of
from roost.storage.aws.table import Item, Table, gather, number_of

SHARDS = 8
_SLOTS = DAYS_KEPT + 1
_SUM, _LIMITS, _CHARGED = "sum#", "sum#limits", "charged"
_AMOUNT = "u#"  # begins the names of attributes that are amounts
_TRIES = 4 * _SLOTS  # of one charge; each further one found a slot with an older day, or lost to a newer


class AwsAccounts:
    """`ports.Accounts`."""

    def __init__(self, aws: Aws) -> None:
        self._ids = aws.ids
        self._table = Table(aws, aws.names.claims)

    async def charge(self, charge: Charge) -> Sequence[Balance]:
        """See `ports.Accounts.charge`.

        Raises:
            StorageUnavailable: others kept beginning new days.
        """
        left = charge.accounts
        for _ in range(_TRIES):
            standing = await self._try(replace(charge, accounts=left))
            if standing is None or any(item["part"]["S"] == _CHARGED for item in standing):
                return await self.show(charge.accounts)
            left = await self._in_days(left, standing)
        raise StorageUnavailable(f"charge for {charge.work_id}: others kept beginning new days")

    async def _try(self, charge: Charge) -> list[Item] | None:
        """One transaction; None: it went through, else what stood in its way."""
        shard = shard_of(charge.work_id, SHARDS)
        actions = [self._moves_on(charge)]
        actions += [self._adds(account, charge.amounts, shard) for account in charge.accounts]
        return await self._table.transact(actions, token=self._ids.unique())

    def _moves_on(self, charge: Charge) -> Item:
        position = {"N": str(charge.position)}
        return {
            "Put": {
                "TableName": self._table.name,
                "Item": {**_charged_key(charge.work_id), "position": position},
                "ConditionExpression": "attribute_not_exists(#position) OR #position < :position",
                "ExpressionAttributeNames": {"#position": "position"},
                "ExpressionAttributeValues": {":position": position},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _adds(self, account: Account, amounts: Amounts, shard: int) -> Item:
        names = {f"#{number}": _AMOUNT + name for number, (name, _) in enumerate(amounts)}
        values: Item = {f":{number}": _number(amount) for number, (_, amount) in enumerate(amounts)}
        adding = "ADD " + ", ".join(f"#{number} :{number}" for number in range(len(amounts)))
        update: Item = {"TableName": self._table.name, "Key": _key(account, f"{_SUM}{shard}")}
        if account.day is not None:
            names |= {"#day": "day", "#ends": EXPIRES_AT}
            values |= _of_day(account.day, ":day", ":ends")
            adding = f"SET #day = :day, #ends = :ends {adding}"
            update["ConditionExpression"] = "attribute_not_exists(#day) OR #day = :day"
            update["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return {
            "Update": {
                **update,
                "UpdateExpression": adding,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": values,
            }
        }

    async def _in_days(self, accounts: Sequence[Account], standing: Iterable[Item]) -> tuple[Account, ...]:
        """Begin a day where its slot has an older one; leave accounts of days out that are over."""
        left = list(accounts)
        for item in standing:
            account = next(one for one in accounts if _subject(one) == item["subject"]["S"])
            assert account.day is not None
            if int(item["day"]["N"]) > account.day:
                left.remove(account)
            else:
                await self._begin_day(item, account.day)
        return tuple(left)

    async def _begin_day(self, item: Item, day: int) -> None:
        """A slot anew; who is overtaken by another, or by a charge to a newer day, tries again."""
        await self._table.write_if(
            "put_item",
            Item={"subject": item["subject"], "part": item["part"], **_of_day(day, "day", EXPIRES_AT)},
            ConditionExpression="#day < :day",
            ExpressionAttributeNames={"#day": "day"},
            ExpressionAttributeValues={":day": {"N": str(day)}},
        )

    async def show(self, accounts: Sequence[Account]) -> Sequence[Balance]:
        """See `ports.Accounts.show`. One query each."""
        return await gather(self._show(account) for account in accounts)

    async def _show(self, account: Account) -> Balance:
        answer = await self._table.call(
            "query",
            KeyConditionExpression="#subject = :subject AND begins_with(#part, :part)",
            ExpressionAttributeNames={"#subject": "subject", "#part": "part"},
            ExpressionAttributeValues={":subject": {"S": _subject(account)}, ":part": {"S": _SUM}},
            ConsistentRead=True,
        )
        sums, allowed = _Sums({}), None
        for item in answer["Items"]:
            if item["part"]["S"] == _LIMITS:
                allowed = tuple(sorted((name, float(n["N"])) for name, n in item["limits"]["M"].items()))
            elif account.day is None or item["day"]["N"] == str(account.day):
                sums.take(item)
        return Balance(account, sums.amounts, allowed)

    async def allow(self, account: Account, limits: Amounts, *, order: float) -> None:
        """See `ports.Accounts.allow`. One conditional write."""
        await self._table.write_if(
            "put_item",
            Item={
                **_key(account, _LIMITS),
                "limits": {"M": {name: _number(limit) for name, limit in limits}},
                "order": _number(order),
            },
            ConditionExpression="attribute_not_exists(#order) OR #order <= :order",
            ExpressionAttributeNames={"#order": "order"},
            ExpressionAttributeValues={":order": _number(order)},
        )

    def forgetting(self, work_id: str, root: str) -> list[Item]:
        """Deletes all that is known of work that is deleted; and its family's account, if it is its root.

        For a transaction with the deletion of the last of its entries: once that is gone, these
        may be those of newer work of the same id.
        """
        keys = [_charged_key(work_id)]
        if work_id == root:
            account = Account(work_id.rpartition(NAMESPACE_MARK)[0], work_id)
            keys += [_key(account, f"{_SUM}{shard}") for shard in range(SHARDS)] + [_key(account, _LIMITS)]
        return [{"Delete": {"TableName": self._table.name, "Key": key}} for key in keys]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Adds up shards; in decimals, as DynamoDB does."""

    found: dict[str, Decimal]

    def take(self, item: Item) -> None:
        for name, value in item.items():
            if name.startswith(_AMOUNT):
                key = name.removeprefix(_AMOUNT)
                self.found[key] = self.found.get(key, Decimal(0)) + Decimal(value["N"])

    @property
    def amounts(self) -> Amounts:
        return tuple(sorted((name, round(float(amount), 9)) for name, amount in self.found.items()))


def _subject(account: Account) -> str:
    if account.day is None:
        name = f"a#{account.root.removeprefix(account.namespace + NAMESPACE_MARK)}"
    else:
        name = f"d#{account.day % _SLOTS}"
    return f"{account.namespace}{NAMESPACE_MARK}{name}"


def _key(account: Account, part: str) -> Item:
    return {"subject": {"S": _subject(account)}, "part": {"S": part}}


def _of_day(day: int, name: str, ends: str) -> Item:
    """The number of a day, and the instant from which no charge to it counts; a day early nowhere."""
    return {name: {"N": str(day)}, ends: number_of((day + _SLOTS + 1) * DAY_SECONDS)}


def _charged_key(work_id: str) -> Item:
    return {"subject": {"S": work_subject(work_id)}, "part": {"S": _CHARGED}}


def _number(value: float) -> Item:
    """As DynamoDB takes it: no more than 38 digits."""
    return {"N": format(Decimal(repr(value)), "f")}
