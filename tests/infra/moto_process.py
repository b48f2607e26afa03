"""moto as `roost.testing.standin_process` serves it, with what Terraform's provider needs of it.

Each patch is for something that moto 5.2.5 drops or lacks, so that the provider would wait
for it in vain, or a second plan would never be empty:

* SQS: RedriveAllowPolicy is dropped (the same symptom elsewhere: localstack/localstack#7958),
  RedrivePolicy is written anew, with spaces.
* Application Auto Scaling: there are no tags.
* Lambda: LoggingConfig is dropped, and there is always an ImageConfigResponse.
* DynamoDB: a stream that was turned off can't be turned on again (the contract suite does so).
* ECS: a service's capacity providers and some flags are dropped.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.awslambda.models import LambdaFunction
from moto.dynamodb.models.table import Table
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.sqs.models import Queue

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


def _patch_queues() -> None:
    if "RedriveAllowPolicy" not in Queue.BASE_ATTRIBUTES:
        Queue.BASE_ATTRIBUTES = [*Queue.BASE_ATTRIBUTES, "RedriveAllowPolicy"]
        Queue.redrive_allow_policy = None
    real: Any = Queue.attributes.fget

    def attributes(self: Any) -> dict[str, Any]:
        found = {name: value for name, value in real(self).items() if value is not None}
        for name in _POLICIES:
            if isinstance(found.get(name), str) and found[name]:
                found[name] = json.dumps(json.loads(found[name]), separators=(",", ":"))
        return found

    Queue.attributes = property(attributes)


def _patch_autoscaling() -> None:
    real = ApplicationAutoScalingResponse.register_scalable_target
    tags: dict[str, Any] = {}

    def register(self: Any) -> Any:
        answer = real(self)
        tags.setdefault(json.loads(answer)["ScalableTargetARN"], self._get_param("Tags") or {})
        return answer

    def list_tags(self: Any) -> str:
        return json.dumps({"Tags": tags.get(self._get_param("ResourceARN"), {})})

    ApplicationAutoScalingResponse.register_scalable_target = register
    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags


def _patch_functions() -> None:
    begin, real = LambdaFunction.__init__, LambdaFunction.get_configuration

    def init(self: Any, account_id: str, spec: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        begin(self, account_id, spec, *args, **kwargs)
        self.logging_config = spec.get("LoggingConfig")

    def get_configuration(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = real(self, *args, **kwargs)
        image = (found.get("ImageConfigResponse") or {}).get("ImageConfig") or {}
        if not any(image.values()):
            found.pop("ImageConfigResponse", None)
        if self.logging_config is not None:
            found["LoggingConfig"] = self.logging_config
        return found

    LambdaFunction.__init__ = init
    LambdaFunction.get_configuration = get_configuration


def _patch_streams() -> None:
    real = Table.set_stream_specification

    def set_stream_specification(self: Any, streams: dict[str, Any] | None) -> None:
        real(self, streams)
        if not self.stream_specification["StreamEnabled"]:
            self.latest_stream_label = None

    Table.set_stream_specification = set_stream_specification


def _patch_services() -> None:
    real = EC2ContainerServiceResponse.create_service

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

    EC2ContainerServiceResponse.create_service = create_service


if __name__ == "__main__":
    _patch_queues()
    _patch_autoscaling()
    _patch_functions()
    _patch_streams()
    _patch_services()
    standin_process.OneAtATime = PurgeEndsPolls  # type: ignore[misc]  # what its server is made of
    standin_process.main()
