"""What a new server is asked to be, read from the flags that SGLang will get. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hfx_sgl.launch.plan import InstancePlan

_LAUNCH_WORDS = 3
"""`python -m sglang.launch_server`, which an instance's flags come after."""

_VALUES = (
    ("dtype", ("--dtype",), "auto"),
    ("quantization", ("--quantization",), ""),
    ("tp_size", ("--tp-size", "--tensor-parallel-size", "--tp"), "1"),
    ("pp_size", ("--pp-size", "--pipeline-parallel-size", "--pp"), "1"),
    ("ep_size", ("--ep-size", "--expert-parallel-size", "--ep"), "1"),
    ("attn_cp_size", ("--attn-cp-size", "--attention-context-parallel-size"), "1"),
    ("moe_dp_size", ("--moe-dp-size", "--moe-data-parallel-size"), "1"),
    ("moe_dense_tp_size", ("--moe-dense-tp-size",), ""),
    ("model_impl", ("--model-impl",), "auto"),
    ("json_model_override_args", ("--json-model-override-args",), "{}"),
    ("moe_a2a_backend", ("--moe-a2a-backend",), "none"),
    ("moe_runner_backend", ("--moe-runner-backend",), "auto"),
    ("fp8_gemm_backend", ("--fp8-gemm-backend",), "auto"),
    ("fp4_gemm_backend", ("--fp4-gemm-backend",), "auto"),
    ("ep_num_redundant_experts", ("--ep-num-redundant-experts",), "0"),
    ("cpu_offload_gb", ("--cpu-offload-gb",), "0"),
)
_SWITCHES = (
    "--enable-dp-attention",
    "--enable-dp-lm-head",
    "--enable-fp32-lm-head",
    "--disable-shared-experts-fusion",
)
_DP_SIZE = ("--dp-size", "--data-parallel-size", "--dp")

_REFUSED = (
    ("--load-format", "the load format is what a start from a peer sets"),
    ("--model-loader-extra-config", "SGLang refuses it for weights that come from a peer"),
    ("--custom-weight-loader", "it would load other weights over those of the peer"),
    ("--weight-cache-mode", "it is another way to get weights"),
    ("--enable-memory-saver", "with it SGLang reads from disk, and says so only in its log"),
    ("--speculative-algorithm", "the draft model's weights would be taken for the model's own"),
    ("--startup-weight-load-mode", "it stages files, of which there are none"),
    ("--config", "a file of flags cannot be checked"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneSpec:
    """A server to be started with the weights of a running one.

    Args:
        args: SGLang's flags for it, without those that name the source.
        python: the interpreter that has SGLang.
    """

    args: tuple[str, ...]
    python: str = "python3"

    @classmethod
    def of(cls, instance: InstancePlan) -> "CloneSpec":
        """Return what a planned server is asked to be."""
        return cls(python=instance.argv[0], args=instance.argv[_LAUNCH_WORDS:])

    @property
    def model_path(self) -> str:
        """Where configuration and tokenizer come from, and the weights if all else fails."""
        return last_value(self.args, ("--model-path", "--model")) or ""

    @property
    def served_model_name(self) -> str:
        """What clients call the model; SGLang takes the path when nothing else is given."""
        return last_value(self.args, ("--served-model-name",)) or self.model_path

    @property
    def weight_version(self) -> str | None:
        """The version of the weights that is asked for; None takes any."""
        return last_value(self.args, ("--weight-version",))

    @property
    def tp_size(self) -> int:
        """How many ranks each hold a part of the weights."""
        value = layout_of(self.args)["tp_size"]
        return int(value) if value.isdecimal() else 1

    @property
    def is_seed(self) -> bool:
        """Whether it is going to offer its weights to others."""
        return "--remote-instance-weight-loader-start-seed-via-transfer-engine" in self.args

    def problems(self) -> Iterator[str]:
        """Yield one `field: message` for each flag that could not work, or not as expected."""
        names = [arg.partition("=")[0] for arg in self.args]
        for name, reason in _REFUSED:
            if name in names:
                yield f"bootstrap_from: {name} does not go with it: {reason}"
        layout = layout_of(self.args)
        if layout["pp_size"] != "1":
            yield (
                "bootstrap_from: pipeline parallelism does not go with it: SGLang tells pipeline "
                "ranks apart by nothing, and one would get the weights of another"
            )
        if (last_value(self.args, ("--nnodes",)) or "1") != "1":
            yield "bootstrap_from: a server of several nodes cannot be started from here"
        if "://" in self.model_path:
            yield (
                f"bootstrap_from: SGLang loads {self.model_path} from where it is, whatever it is "
                "told; name a folder or a hub id"
            )


def layout_of(args: Sequence[str]) -> dict[str, str]:
    """Return the flags that decide how weights lie in memory, as given or as SGLang defaults them.

    Two servers of the same model can exchange weights when all of them are equal.
    """
    layout = {field: last_value(args, names) or default for field, names, default in _VALUES}
    layout |= {name: str(name in args) for name in _SWITCHES}
    # Replicas hold whole copies each, unless their attention is spread over the tensor ranks.
    is_spread = "--enable-dp-attention" in args
    layout["dp_size"] = last_value(args, _DP_SIZE) or "1" if is_spread else "any"
    return layout


def last_value(args: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the value of a flag, the last one as SGLang's parser does; None when not given."""
    value = None
    for index, arg in enumerate(args):
        name, equals, attached = arg.partition("=")
        if name in names:
            value = attached if equals else "".join(args[index + 1 : index + 2])
    return value
