"""moto as `roost.testing.standin_process` serves it, with what Terraform's provider needs of it.

Each patch is for something that moto 5.2.5 drops or lacks, so that the provider would wait
for it in vain, or a second plan would never be empty:

* SQS: RedriveAllowPolicy is dropped (the same symptom elsewhere: localstack/localstack#7958),
  RedrivePolicy is written anew, with spaces.
* Application Auto Scaling: there are no tags.
* Lambda: LoggingConfig is dropped, and there is always an ImageConfigResponse.
* DynamoDB: a stream that was turned off can't be turned on again (the contract suite does so).
* ECS: a service's capacity providers and some flags are dropped.

And one for something that it does too much: whoever sends to a queue with an event source mapping
has moto receive there, try to run the function in docker, and give the messages back, seen once
more each. The tests play Lambda's event source themselves.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from importlib import import_module
from typing import Any

from roost.testing import standin_process

_POLICIES = ("RedrivePolicy", "RedriveAllowPolicy")
_SERVICE = {
    "capacityProviderStrategy": "capacity_provider_strategy",
    "availabilityZoneRebalancing": "availability_zone_rebalancing",
    "enableECSManagedTags": "enable_ecs_managed_tags",
}


class PurgeEndsPolls(standin_process.OneAtATime):
    """A queue that is purged is asked by nobody any more.

    A long poll goes on here when its client is gone, and would swallow the first message of
    the next test.
    """

    def __init__(self, application: standin_process.Application) -> None:
        super().__init__(application)
        self._purges: Counter[str] = Counter()

    def answer(self, environ: standin_process.Environ) -> standin_process.Answer:
        body = standin_process._body_of(environ)
        if environ.get("HTTP_X_AMZ_TARGET") == "AmazonSQS.PurgeQueue":
            self._purges[json.loads(body)["QueueUrl"]] += 1
        again = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": False}
        return super().answer({**environ, **again, "CONTENT_LENGTH": str(len(body))})

    def _receive(self, environ: standin_process.Environ, request: dict[str, Any]) -> standin_process.Answer:
        url, seconds = request["QueueUrl"], request.get("WaitTimeSeconds", 0)
        purges, end = self._purges[url], time.monotonic() + seconds
        short = {**request, "WaitTimeSeconds": 0}
        answer = super()._receive(environ, short)
        while b'"Messages"' not in answer[2] and answer[0].startswith("200"):
            left = end - time.monotonic()
            with standin_process._changed:
                if left <= 0 or self._purges[url] != purges:
                    return answer
                standin_process._changed.wait(min(left, self.look_seconds))
            if self._purges[url] == purges:
                answer = super()._receive(environ, short)
        return answer


def _class(module: str, name: str) -> Any:
    """One of moto's, imported when its clock is already shifted."""
    return getattr(import_module(module), name)


def _patch_queues() -> None:
    queue = _class("moto.sqs.models", "Queue")
    if "RedriveAllowPolicy" not in queue.BASE_ATTRIBUTES:
        queue.BASE_ATTRIBUTES = [*queue.BASE_ATTRIBUTES, "RedriveAllowPolicy"]
        queue.redrive_allow_policy = None
    real: Any = queue.attributes.fget

    def attributes(self: Any) -> dict[str, Any]:
        found = {name: value for name, value in real(self).items() if value is not None}
        for name in _POLICIES:
            if isinstance(found.get(name), str) and found[name]:
                found[name] = json.dumps(json.loads(found[name]), separators=(",", ":"))
        return found

    queue.attributes = property(attributes)


def _patch_event_sources() -> None:
    queue = _class("moto.sqs.models", "Queue")
    queue.lambda_event_source_mappings = property(lambda self: {}, lambda self, mappings: None)


def _patch_autoscaling() -> None:
    responses = _class("moto.applicationautoscaling.responses", "ApplicationAutoScalingResponse")
    real = responses.register_scalable_target
    tags: dict[str, Any] = {}

    def register(self: Any) -> Any:
        answer = real(self)
        tags.setdefault(json.loads(answer)["ScalableTargetARN"], self._get_param("Tags") or {})
        return answer

    def list_tags(self: Any) -> str:
        return json.dumps({"Tags": tags.get(self._get_param("ResourceARN"), {})})

    responses.register_scalable_target = register
    responses.list_tags_for_resource = list_tags


def _patch_functions() -> None:
    function = _class("moto.awslambda.models", "LambdaFunction")
    begin, real = function.__init__, function.get_configuration

    def init(self: Any, account_id: str, spec: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        begin(self, account_id, spec, *args, **kwargs)
        self.logging_config = spec.get("LoggingConfig")

    def get_configuration(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = real(self, *args, **kwargs)
        image = (found.get("ImageConfigResponse") or {}).get("ImageConfig") or {}
        if not any(image.values()):
            found.pop("ImageConfigResponse", None)
        if self.logging_config is not None:
            found["LoggingConfig"] = self.logging_config
        return found

    function.__init__ = init
    function.get_configuration = get_configuration


def _patch_streams() -> None:
    table = _class("moto.dynamodb.models.table", "Table")
    real = table.set_stream_specification

    def set_stream_specification(self: Any, streams: dict[str, Any] | None) -> None:
        real(self, streams)
        if not self.stream_specification["StreamEnabled"]:
            self.latest_stream_label = None

    table.set_stream_specification = set_stream_specification


def _patch_services() -> None:
    responses = _class("moto.ecs.responses", "EC2ContainerServiceResponse")
    real = responses.create_service

    def create_service(self: Any) -> Any:
        answer = real(self)
        service = self.ecs_backend.services[
            f"{self._get_param('cluster').split('/')[-1]}:{self._get_param('serviceName')}"
        ]
        for name, attribute in _SERVICE.items():
            if (given := self._get_param(name)) is not None:
                setattr(service, attribute, given)
        if self._get_param("capacityProviderStrategy"):
            service.launch_type = None
        return answer

    responses.create_service = create_service


if __name__ == "__main__":
    standin_process.shift_motos_clock()
    _patch_queues()
    _patch_event_sources()
    _patch_autoscaling()
    _patch_functions()
    _patch_streams()
    _patch_services()
    standin_process.OneAtATime = PurgeEndsPolls  # type: ignore[misc]  # what its server is made of
    standin_process.main()
