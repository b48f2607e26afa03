"""Prints those of the given IAM actions that AWS does not have; runs where policy_sentry is installed."""

import sys

from policy_sentry.querying.actions import get_action_data

for action in sys.argv[1:]:
    service, _, name = action.partition(":")
    if not get_action_data(service, name):
        print(action)
