"""The benchmark's stand-ins, as the official clients find them: botocore's for AWS, `openai`'s for the provider."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from load_tests.bench.stand_ins import PROVIDER_KEY, TEXT

KEY = {"pk": {"S": "p"}, "sk": {"S": "s"}}


@dataclass(frozen=True)
class StandIns:
    ports: dict[str, int]

    def client(self, service: str, port: str = "aws") -> Any:
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        url = f"http://127.0.0.1:{self.ports[port]}"
        return boto3.client(service, endpoint_url=url, region_name="us-east-1", config=config)  # type: ignore[call-overload]

    def control(self, name: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["control"], timeout=10)
        connection.request("POST", f"/{name}", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[StandIns]:
    command = [sys.executable, "-m", "load_tests.bench.stand_ins"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield StandIns(json.loads(process.stdout.readline()))
        # Its standard input ends, and so does it.
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_the_table_answers_what_functions_ask(stand_ins: StandIns) -> None:
    table = stand_ins.client("dynamodb")
    item = {**KEY, "n": {"N": "1"}}
    table.put_item(TableName="t", Item=item, ConditionExpression="attribute_not_exists(pk)")
    assert table.get_item(TableName="t", Key=KEY)["Item"] == item
    assert table.batch_get_item(RequestItems={"t": {"Keys": [KEY]}})["Responses"] == {"t": [item]}
    new = table.update_item(
        TableName="t",
        Key=KEY,
        UpdateExpression="SET #n = #n + :one",
        ConditionExpression="#n < :limit",
        ExpressionAttributeNames={"#n": "n"},
        ExpressionAttributeValues={":one": {"N": "1"}, ":limit": {"N": "2"}},
        ReturnValues="ALL_NEW",
    )
    assert new["Attributes"]["n"] == {"N": "2"}
    table.transact_write_items(TransactItems=[{"Put": {"TableName": "t", "Item": {**KEY, "sk": {"S": "other"}}}}])
    found = table.query(TableName="t", KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "p"}})
    assert [one["sk"]["S"] for one in found["Items"]] == ["other", "s"]


def test_a_refusal_is_one_that_botocore_knows(stand_ins: StandIns) -> None:
    table = stand_ins.client("dynamodb")
    table.put_item(TableName="t", Item=KEY)
    with pytest.raises(table.exceptions.ConditionalCheckFailedException) as refused:
        table.put_item(
            TableName="t",
            Item=KEY,
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert refused.value.response["Item"] == KEY
    # The floor's table lets everything pass.
    stand_ins.client("dynamodb", "floor").put_item(TableName="t", Item=KEY, ConditionExpression="attribute_exists(pk)")


def test_the_floors_table_gets_what_the_other_holds(stand_ins: StandIns) -> None:
    stand_ins.control("put", [{**KEY, "pk": {"S": "seeded"}}])
    stand_ins.control("seed_floor")
    floor = stand_ins.client("dynamodb", "floor")
    assert floor.get_item(TableName="t", Key={**KEY, "pk": {"S": "seeded"}})["Item"]["pk"] == {"S": "seeded"}


def test_secrets_and_objects(stand_ins: StandIns) -> None:
    secret = stand_ins.client("secretsmanager").get_secret_value(SecretId="arn:aws:secretsmanager:::secret:x")
    assert json.loads(secret["SecretString"]) == {"bench": PROVIDER_KEY}
    objects = stand_ins.client("s3")
    objects.put_object(Bucket="b", Key="k", Body=b"x" * 100_000)
    assert objects.get_object(Bucket="b", Key="k")["Body"].read() == b"x" * 100_000
    with pytest.raises(ClientError) as missing:
        objects.get_object(Bucket="b", Key="none")
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"


def test_calls_are_counted_and_on_request_recorded(stand_ins: StandIns) -> None:
    table = stand_ins.client("dynamodb")
    stand_ins.control("forget")
    table.put_item(TableName="t", Item=KEY)
    assert (stand_ins.control("seen")["counts"], stand_ins.control("seen")["calls"]) == (
        {"aws dynamodb PutItem": 1},
        [],
    )
    stand_ins.control("record")
    table.put_item(TableName="t", Item={**KEY, "text": {"S": "x" * 3000}})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"segment", ("127.0.0.1", stand_ins.ports["xray"]))
    table.get_item(TableName="t", Key=KEY)
    seen = stand_ins.control("seen")
    assert [call["operation"] for call in seen["calls"]] == ["PutItem", "GetItem"]
    assert json.loads(seen["calls"][1]["body"]) == {"TableName": "t", "Key": KEY}
    assert seen["units"]["aws"] == {"write": 3, "read": 0.5}
    assert (seen["segments"], seen["segment_bytes"]) == (1, 7)


def test_what_it_does_not_know_is_refused_and_told(stand_ins: StandIns) -> None:
    with pytest.raises(ClientError):
        stand_ins.client("dynamodb").list_tables()
    with pytest.raises(ClientError):
        stand_ins.client("events").put_events(Entries=[{"Source": "x", "DetailType": "x", "Detail": "{}"}])
    assert {"dynamodb ListTables", "AWSEvents PutEvents"} <= set(stand_ins.control("seen")["unknown"])


@pytest.mark.parametrize("port", ["provider", "upstream"])
def test_the_provider_answers_whole_and_in_pieces(stand_ins: StandIns, port: str) -> None:
    url = f"http://127.0.0.1:{stand_ins.ports[port]}/v1"
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, _strict_response_validation=True) as client:
        question: Any = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
        whole = client.chat.completions.create(**question)
        assert whole.choices[0].message.content == TEXT
        pieces = list(client.chat.completions.create(**question, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices).split() == TEXT.split()
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.total_tokens == 176
