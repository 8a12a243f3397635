"""A Kafka cluster for tests: the mock cluster of librdkafka, a broker that speaks the real protocol and keeps records in memory.

Usage: kafka_broker.py TOPIC:PARTITIONS...

Prints the broker's address, then obeys lines on standard input, each answered with `ok`:
  down         closes the broker's port and connections, as a crash does
  up           opens the same port again; the records are still there
  delay MS     answers every request this much later
  refuse CODE  answers the next produce request with this error code of the protocol
"""

import ctypes
import sys

PRODUCE = 0
BROKER = 1


def main() -> None:
    library = ctypes.CDLL("librdkafka.so.1")
    for name in ("conf_new", "new", "mock_cluster_new", "mock_cluster_bootstraps"):
        getattr(library, "rd_kafka_" + name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(512)
    owner = library.rd_kafka_new(0, ctypes.c_void_p(library.rd_kafka_conf_new()), error, ctypes.c_size_t(len(error)))
    if not owner:
        sys.exit(error.value.decode())
    owner = ctypes.c_void_p(owner)
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(owner, 1))
    for topic in sys.argv[1:]:
        name, partitions = topic.split(":")
        library.rd_kafka_mock_topic_create(cluster, name.encode(), int(partitions), 1)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        command, *values = line.split()
        if command == "down":
            library.rd_kafka_mock_broker_set_down(cluster, BROKER)
        elif command == "up":
            library.rd_kafka_mock_broker_set_up(cluster, BROKER)
        elif command == "delay":
            library.rd_kafka_mock_broker_set_rtt(cluster, BROKER, int(values[0]))
        elif command == "refuse":
            errors = (ctypes.c_int * 1)(int(values[0]))
            library.rd_kafka_mock_push_request_errors_array(cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(1), errors)
        else:
            sys.exit(f"unknown command: {command}")
        print("ok", flush=True)


main()
