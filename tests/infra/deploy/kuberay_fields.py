"""The fields of KubeRay's resources (ray.io/v1, KubeRay 1.6) as a schema that allows no others.

Names and types after KubeRay's API reference, for those parts that are not Kubernetes' own. Pod
templates and the like are any object here: they are checked against Kubernetes' schemas.
"""

from typing import Any

TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number", "minimum": 0}
FLAG = {"type": "boolean"}
OBJECT = {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def only(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


AUTOSCALER = only(
    resources=OBJECT,
    image=TEXT,
    imagePullPolicy=TEXT,
    securityContext=OBJECT,
    idleTimeoutSeconds=WHOLE,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)
HEAD = only(
    ("template",),
    template=OBJECT,
    headService=OBJECT,
    enableIngress=FLAG,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = only(
    ("groupName", "template", "minReplicas", "maxReplicas"),
    suspend=FLAG,
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    idleTimeoutSeconds=WHOLE,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=OBJECT,
    scaleStrategy=only(workersToDelete={"type": "array", "items": TEXT}),
    numOfHosts=WHOLE,
)
CLUSTER = only(
    ("headGroupSpec", "workerGroupSpecs", "rayVersion"),
    suspend=FLAG,
    managedBy=TEXT,
    authOptions=only(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    autoscalerOptions=AUTOSCALER,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=OBJECT,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS, "minItems": 1},
)
JOB = only(
    ("entrypoint", "rayClusterSpec"),
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=WHOLE,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=OBJECT,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=only(backoffLimit=WHOLE),
    managedBy=TEXT,
    deletionStrategy=OBJECT,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return only(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=only(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
        spec=spec,
    )


SCHEMAS = {"RayCluster": resource("RayCluster", CLUSTER), "RayJob": resource("RayJob", JOB)}
