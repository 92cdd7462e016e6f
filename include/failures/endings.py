"""The ways in which a run of a step ends badly, in words for the person on call."""

from __future__ import annotations

from enum import Enum


class Ending(str, Enum):
    """How a run ended."""

    EVICTED = "evicted"  # the node ran short of something and its kubelet threw the pod out
    PREEMPTED = "preempted"  # a pod of higher priority, a drain or a spot reclaim took the place
    NODE_LOST = "node_lost"  # the machine, or what supervises the pod on it, went away
    OUT_OF_MEMORY = "out_of_memory"  # of the host or of the accelerator
    COMMUNICATION = "communication"  # NCCL, gloo or the rendezvous of the training processes
    DIVERGED = "diverged"  # loss, weights or metric became NaN or infinite
    DATA = "data"
    USER = "user"
    TIMED_OUT = "timed_out"
    IMAGE = "image"  # cannot be pulled
    UNSCHEDULABLE = "unschedulable"
    INCOMPLETE = "incomplete"  # of the pods that train one model together, some found no place in time: none was kept
    KILLED = "killed"  # by a signal or by deleting the pod, and nothing says why: a person, mostly
    UNKNOWN = "unknown"


#: The place was taken away; the work itself did nothing wrong.
LOST_PLACE = frozenset({Ending.EVICTED, Ending.PREEMPTED, Ending.NODE_LOST, Ending.INCOMPLETE})

#: The same again would end the same way: a person must change something first.
HOPELESS = frozenset({Ending.DATA, Ending.USER})

#: Ending -> (what happened, what to do).
WORDS: dict[Ending, tuple[str, str]] = {
    Ending.EVICTED: (
        "the node ran short and evicted the pod",
        "nothing; if it comes again, ask for more (resources.memory, resources.ephemeral_storage) or give the pod a "
        "resources.priority_class",
    ),
    Ending.PREEMPTED: (
        "the pod had to make way",
        "nothing; if it comes again, give the family a resources.priority_class or nodes that are not reclaimed",
    ),
    Ending.NODE_LOST: (
        "the machine under the pod went away",
        "nothing; if it comes again on one machine, take that machine out of service",
    ),
    Ending.OUT_OF_MEMORY: (
        "memory ran out",
        "lower trainer.batch_size and raise trainer.accumulate_grad_batches, or raise resources.memory",
    ),
    Ending.COMMUNICATION: (
        "the training processes lost each other",
        "look for the rank that stopped first, further up in the log; if none did, check the network between the pods",
    ),
    Ending.DIVERGED: (
        "training diverged",
        "lower the learning rate, raise the share of warm-up steps, or clip gradients (trainer.gradient_clip_norm)",
    ),
    Ending.DATA: ("the data cannot be used", "mend the data and trigger the run again"),
    Ending.USER: ("something that a person sets is wrong", "correct it and trigger the run again"),
    Ending.TIMED_OUT: (
        "it took longer than it may",
        "see in its progress whether it hangs; if it is only slow, raise resources.timeout_minutes",
    ),
    Ending.IMAGE: (
        "the image cannot be pulled",
        "check resources.image, and that the cluster may pull it",
    ),
    Ending.UNSCHEDULABLE: (
        "no node can take the pod",
        "compare resources (cpu, memory, gpu, gpu_kind, node_selector) with what the cluster has free, and the quota",
    ),
    Ending.INCOMPLETE: (
        "not all pods that train together found a place in time, so none was kept",
        "nothing if the cluster is only full; else compare trainer.nodes and resources (cpu, memory, gpu, gpu_kind, "
        "node_selector) with what it has, and the quota",
    ),
    Ending.KILLED: (
        "it was killed from outside",
        "find out who did it (a person, or the machine for want of memory); to end a run for good, mark its task as "
        "failed in Airflow",
    ),
    Ending.UNKNOWN: ("it ended without a reason that is known", "read the end of its log"),
}
