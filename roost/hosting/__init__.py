"""Roost on AWS Lambda: the worker, the sweeper and the console.

Each module has a `handler`, which is what the function's handler setting names, such as
`roost.hosting.lambda_worker.handler`. Settings come from the environment (`ROOST_*`).
"""
