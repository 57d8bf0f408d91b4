"""The demo's MongoDB: sample data, a day's changes, a loss, and a fingerprint that owes nothing to kaleem-dr.

mongo.py URI seed | change | lose | empty | fingerprint DATABASE | fingerprint-dump DIRECTORY | without-indexes FILE

Data is the same in every run: ids, times and texts come from a fixed seed.
"""

import datetime
import hashlib
import json
import pathlib
import random
import sys

import bson
import bson.json_util
import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

BEGAN = datetime.datetime(2025, 10, 1, 8, 0)
WORDS = (
    "account answer backup between collection document error every file give how invoice key language message model night "
    "order page question read restore server snapshot table thank time user vector why window "
    "سؤال جواب نسخة احتياطية ملف وثيقة خادم رسالة شكرا حساب فاتورة صفحة لغة نموذج وقت استعادة مستخدم"
).split()
USERS, CONVERSATIONS, DOCUMENTS, AUDIT = 3000, 4000, 300, 2000
MESSAGES_EACH = 10


def object_id(kind, number):
    return bson.ObjectId(f"{kind:08x}{number:016x}")


def text(rng, words):
    return " ".join(rng.choices(WORDS, k=words))


def at(minutes):
    return BEGAN + datetime.timedelta(minutes=minutes)


def user(number):
    rng = random.Random(f"user {number}")
    return {
        "_id": object_id(1, number),
        "email": f"user{number}@kaleem.example",
        "name": text(rng, 2),
        "locale": rng.choice(["ar", "en"]),
        "roles": rng.sample(["owner", "editor", "reader"], rng.randint(1, 2)),
        "credit": bson.Decimal128(f"{rng.randint(0, 99999) / 100:.2f}"),
        "created_at": at(number),
        "settings": {"theme": rng.choice(["light", "dark"]), "page": bson.Int64(rng.randint(10, 100)), "beta": rng.random() < 0.1},
    }


def conversation(number):
    rng = random.Random(f"conversation {number}")
    return {
        "_id": object_id(2, number),
        "user_id": object_id(1, rng.randrange(USERS)),
        "title": text(rng, 5),
        "status": rng.choice(["open", "closed"]),
        "tags": rng.sample(["sales", "support", "legal", "hr"], rng.randint(0, 2)),
        "updated_at": at(number * 10),
    }


def messages(number):
    rng = random.Random(f"messages {number}")
    for turn in range(MESSAGES_EACH):
        yield {
            "_id": object_id(3, number * 1000 + turn),
            "conversation_id": object_id(2, number),
            "turn": turn,
            "role": ("user", "assistant")[turn % 2],
            "text": text(rng, rng.randint(10, 60)),
            "tokens": rng.randint(20, 900),
            "cost": rng.random() / 100,
            "at": at(number * 10 + turn),
        }


def document(number):
    rng = random.Random(f"document {number}")
    return {
        "_id": object_id(4, number),
        "title": text(rng, 6),
        "body": text(rng, rng.randint(600, 1500)),
        "thumbnail": rng.randbytes(900),
        "point_ids": [rng.getrandbits(63) for _ in range(12)],
    }


def audit(number):
    return {"_id": object_id(5, number), "at": at(number), "what": text(random.Random(f"audit {number}"), 4)}


def insert(collection, documents):
    batch = []
    count = 0
    for item in documents:
        batch.append(item)
        count += 1
        if len(batch) == 2000:
            collection.insert_many(batch)
            batch = []
    if batch:
        collection.insert_many(batch)
    return count


def seed(database):
    database.create_collection("audit", capped=True, size=4 << 20)
    count = insert(database.users, map(user, range(USERS)))
    count += insert(database.conversations, map(conversation, range(CONVERSATIONS)))
    count += insert(database.messages, (message for number in range(CONVERSATIONS) for message in messages(number)))
    count += insert(database.documents, map(document, range(DOCUMENTS)))
    count += insert(database.audit, map(audit, range(AUDIT)))
    count += insert(
        database.settings,
        [
            {"_id": "models", "default": "kaleem-large", "temperature": 0.2, "since": BEGAN},
            {"_id": "limits", "daily_tokens": bson.Int64(2_000_000), "files": 40, "blocked": None},
        ],
    )
    database.users.create_index("email", unique=True, name="email")
    database.conversations.create_index([("user_id", 1), ("updated_at", -1)])
    database.messages.create_index([("conversation_id", 1), ("turn", 1)], unique=True)
    database.messages.create_index("at", partialFilterExpression={"role": "user"}, name="asked_at")
    database.create_collection("open_conversations", viewOn="conversations", pipeline=[{"$match": {"status": "open"}}])
    print(f"MongoDB: {count:,} documents in 6 collections, 4 indexes besides _id, 1 view")


def change(database):
    new = range(CONVERSATIONS, CONVERSATIONS + 40)
    added = insert(database.conversations, map(conversation, new))
    added += insert(database.messages, (message for number in new for message in messages(number)))
    added += insert(database.audit, map(audit, range(AUDIT, AUDIT + 100)))
    recent = [object_id(2, number) for number in range(CONVERSATIONS - 60, CONVERSATIONS)]
    updated = database.conversations.update_many({"_id": {"$in": recent}}, {"$set": {"status": "closed"}}).modified_count
    updated += database.settings.update_one({"_id": "limits"}, {"$set": {"files": 50}}).modified_count
    forgotten = [object_id(3, (CONVERSATIONS - 5) * 1000 + turn) for turn in range(MESSAGES_EACH)]
    deleted = database.messages.delete_many({"_id": {"$in": forgotten}}).deleted_count
    print(f"MongoDB: {added} documents added, {updated} updated, {deleted} deleted")


def lose(database):
    database.drop_collection("messages")
    gone = database.users.delete_many({"locale": "ar"}).deleted_count
    database.settings.update_one({"_id": "models"}, {"$set": {"default": "oops"}})
    print(f"MongoDB: collection messages dropped, {gone:,} users deleted, a setting overwritten")


def empty(client):
    for name in client.list_database_names():
        if name not in ("admin", "config", "local"):
            client.drop_database(name)
    print("MongoDB: no databases")


def digest(documents, in_order):
    hashes = []
    size = 0
    for raw in documents:
        hashes.append(hashlib.sha256(raw).digest())
        size += len(raw)
    if not in_order:
        hashes.sort()
    return {"documents": len(hashes), "bytes": size, "sha256": hashlib.sha256(b"".join(hashes)).hexdigest()}


def fingerprint(database):
    """Of every collection: its documents as bytes, its options and its indexes. The order counts where it is capped."""
    raw = CodecOptions(document_class=RawBSONDocument)
    found = {}
    for info in sorted(database.list_collections(), key=lambda info: info["name"]):
        entry = {"type": info["type"], "options": bson.json_util.dumps(info["options"], sort_keys=True)}
        if info["type"] == "view":
            entry["shows"] = database[info["name"]].count_documents({})
        else:
            documents = database.get_collection(info["name"], raw).find()
            entry |= digest((document.raw for document in documents), bool(info["options"].get("capped")))
            indexes = {index["name"]: index for index in database[info["name"]].list_indexes()}
            # A server may include the collection's name in its index, which is the only thing that must differ.
            entry["indexes"] = {
                name: {key: bson.json_util.dumps(index[key]) for key in sorted(index) if key != "ns"}
                for name, index in sorted(indexes.items())
            }
        found[info["name"]] = entry
    return found


def documents_of(file):
    content = file.read_bytes()
    offset = 0
    while offset < len(content):
        length = int.from_bytes(content[offset : offset + 4], "little")
        raw = content[offset : offset + length]
        RawBSONDocument(raw)  # raises an error if this is not a document
        yield raw
        offset += length


def fingerprint_dump(directory):
    found = {}
    for file in sorted(directory.glob("*.bson")):
        described = json.loads(file.with_suffix(".metadata.json").read_text())
        found[described["collectionName"]] = digest(documents_of(file), bool(described.get("options", {}).get("capped")))
    return found


def without_indexes(file):
    found = json.loads(file.read_text())
    return {
        name: {key: entry[key] for key in ("documents", "bytes", "sha256")}
        for name, entry in found.items()
        if entry["type"] != "view"
    }


def main(uri, action, *rest):
    if action in ("fingerprint-dump", "without-indexes"):
        found = {"fingerprint-dump": fingerprint_dump, "without-indexes": without_indexes}[action](pathlib.Path(rest[0]))
        print(json.dumps(found, indent=1, sort_keys=True))
        return
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)
    if action == "fingerprint":
        print(json.dumps(fingerprint(client[rest[0]]), indent=1, sort_keys=True))
    elif action == "empty":
        empty(client)
    else:
        {"seed": seed, "change": change, "lose": lose}[action](client["kaleem"])


main(*sys.argv[1:])
