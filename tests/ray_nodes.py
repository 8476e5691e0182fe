"""A Ray cluster of two nodes on this machine, for tests.

    python -m tests.ray_nodes

It prints the cluster's address. The line "kill" on standard input kills the second node, and the
end of the input the cluster.
"""

import logging
import os
import sys

ADDRESS = "127.0.0.2"  # of the loopback interface; Ray replaces 127.0.0.1 by another address
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def main() -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": ADDRESS}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    logging.disable()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
