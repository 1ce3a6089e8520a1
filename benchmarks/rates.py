"""The machine's matrix rate, which everything that computes is held against."""

from children import Group

PACKAGES = ("renal-ray", "keras", "tensorflow", "jax", "numpy", "ray")
PRECISIONS = ("float32", "mixed_bfloat16")


def matrix_rates(cores: int, *, rounds: int = 2) -> dict[str, dict[str, float]]:
    """GFLOP/s of a large matrix product by precision, with all threads in one process and with one
    thread in each of as many processes.

    Args:
        cores: threads.
        rounds: of each, of which the best counts.
    """
    found: dict[str, dict[str, float]] = {"all threads": {}, "a thread each": {}}
    for precision in PRECISIONS:
        for name, count, threads in (("all threads", 1, cores), ("a thread each", cores, 1)):
            group = Group(
                {"way": "matrix", "precision": precision}, count=count, threads=threads
            ).ready()
            for _ in range(rounds):
                group.round()
            found[name][precision] = max(group.rounds)
            group.close()
    return found
