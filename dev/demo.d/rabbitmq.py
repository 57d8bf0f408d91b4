"""The demo's RabbitMQ: sample definitions, a day's changes, a loss, and a fingerprint that owes nothing to kaleem-dr.

rabbitmq.py URL seed PASSWORD_FILE | change | lose | empty | fingerprint VHOST
"""

import base64
import json
import pathlib
import sys
import urllib.parse
import urllib.request

VHOST = "kaleem"


class Broker:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.base = f"http://{parts.hostname}:{parts.port}/api"
        self.login = "Basic " + base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()

    def call(self, method, *path, body=None):
        url = "/".join([self.base, *(urllib.parse.quote(part, safe="") for part in path)])
        headers = {"authorization": self.login, "content-type": "application/json"}
        request = urllib.request.Request(url, method=method, headers=headers, data=body and json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def put(self, *path, **body):
        self.call("PUT", *path, body=body or {"auto_delete": False})


def queue(broker, name, *keys, **arguments):
    broker.put("queues", VHOST, name, durable=True, arguments=arguments)
    for key in keys:
        broker.call("POST", "bindings", VHOST, "e", "events", "q", name, body={"routing_key": key, "arguments": {}})


def seed(broker, password_file):
    password = pathlib.Path(password_file).read_text().strip()
    broker.put("users", "kaleem", password=password, tags="administrator")
    broker.put("users", "app", password=password, tags="")
    broker.put("vhosts", VHOST, description="the application")
    for user in ("kaleem", "app"):
        broker.put("permissions", VHOST, user, configure=".*", write=".*", read=".*")
    broker.put("exchanges", VHOST, "events", type="topic", durable=True)
    broker.put("exchanges", VHOST, "late", type="fanout", durable=True)
    broker.put("exchanges", VHOST, "jobs", type="direct", durable=True, arguments={"alternate-exchange": "late"})
    broker.call("POST", "bindings", VHOST, "e", "events", "e", "jobs", body={"routing_key": "job.#", "arguments": {}})
    queue(broker, "embeddings", "document.*", **{"x-dead-letter-exchange": "late", "x-max-priority": 5})
    queue(broker, "mail", "user.created", "invoice.#")
    queue(broker, "billing", "invoice.*", **{"x-message-ttl": 86_400_000})
    queue(broker, "الإشعارات", "message.*")
    queue(broker, "dead")
    broker.call("POST", "bindings", VHOST, "e", "late", "q", "dead", body={"routing_key": "", "arguments": {}})
    limits = {"max-length": 100_000, "overflow": "reject-publish"}
    broker.put("policies", VHOST, "limits", **{"pattern": "^(mail|billing)$", "apply-to": "queues", "definition": limits})
    print("RabbitMQ: a virtual host with 3 exchanges, 5 queues, 7 bindings, 1 policy; 2 users")


def change(broker):
    queue(broker, "exports", "export.*", **{"x-queue-type": "classic"})
    print("RabbitMQ: queue exports added, with a binding")


def lose(broker):
    broker.call("DELETE", "queues", VHOST, "billing")
    broker.call("DELETE", "exchanges", VHOST, "late")
    broker.call("DELETE", "policies", VHOST, "limits")
    print("RabbitMQ: queue billing, exchange late and policy limits deleted")


def empty(broker):
    for vhost in broker.call("GET", "vhosts"):
        if vhost["name"] != "/":
            broker.call("DELETE", "vhosts", vhost["name"])
    broker.call("DELETE", "users", "app")
    print("RabbitMQ: no virtual hosts, and no users but the administrators")


FIELDS = {
    "exchanges": ("name", "type", "durable", "auto_delete", "internal", "arguments"),
    "queues": ("name", "durable", "auto_delete", "exclusive", "arguments"),
    "bindings": ("source", "destination", "destination_type", "routing_key", "arguments"),
    "policies": ("name", "pattern", "apply-to", "definition", "priority"),
}


def fingerprint(broker, vhost):
    """What the broker shows of a virtual host, one list a kind, but for its name and its statistics."""
    return {
        kind: sorted(json.dumps({field: item.get(field) for field in fields}, sort_keys=True) for item in broker.call("GET", kind, vhost))
        for kind, fields in FIELDS.items()
    }


def main(url, action, *rest):
    broker = Broker(url)
    if action == "fingerprint":
        print(json.dumps(fingerprint(broker, *rest), indent=1))
    else:
        {"seed": seed, "change": change, "lose": lose, "empty": empty}[action](broker, *rest)


main(*sys.argv[1:])
