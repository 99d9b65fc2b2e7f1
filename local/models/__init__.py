"""The local model server: real small models behind the providers' own wire protocols.

``python -m local.models --port N`` serves, on 127.0.0.1:

* Amazon Bedrock at the root: Converse, ConverseStream, InvokeModel (Titan-v2-shaped embeddings);
* Amazon SageMaker: ``/endpoints/{name}/invocations``;
* OpenAI at ``/openai/v1``: chat completions (also streamed), embeddings, models;
* a control plane: ``/health``, ``/faults``, ``/requests``.

Nothing here is deployed; ``README.md`` beside this file shows how to use it.
"""
