"""The schema of a run: every field with its type, range, default and the sentence that explains it.

Enters: a tree of plain values (from a run file, overrides, Python). Leaves: a frozen `RunConfig`. Only single fields are checked
here; what several fields mean together stands in `config_checks`, options of named functions in `config_options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from burnish.config_decide import DecideConfig
from burnish.config_named import as_named
from burnish.config_parts import Count, CountOrZero, Share, Table, Text, listed
from burnish.config_rollout import RolloutConfig

DEFAULT_EPOCHS = 3
ONE_TASK = "main"
"""What the only task of a run is called."""
DEFAULT_MODEL = "tiny"
DEFAULT_VOCABULARY = 8192
SMALLEST_VOCABULARY = 288
"""32 special tokens and 256 bytes, as `models.fresh_tokenizer` has them."""
NAME_WITH_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]+:"
"""`public:banking77`, `hf:owner/name`: a source that is no path. Two characters at least, so that a drive letter is a path."""


def as_model(value: object) -> object:
    """Return the table that `model = "tiny"` stands for; a table unchanged."""
    return {"name": value} if value is not None and not isinstance(value, Mapping | BaseModel) else value


def as_data(value: object) -> object:
    """Return the table that `data = "rows.jsonl"` or a list of sources stands for; anything else unchanged."""
    return {"source": value} if isinstance(value, str | list | tuple) else _with_format(value)


def as_sources(value: object) -> object:
    """Return the list of tables that a source, or a list of sources, stands for; anything else unchanged."""
    if isinstance(value, str | Mapping):
        value = [value]
    if isinstance(value, list | tuple):
        return [{"source": item} if isinstance(item, str) else _with_format(item) for item in value]
    return value


def _with_format(value: object) -> object:
    """Return a table of data with the one spelling of its format, which may have options; anything else unchanged."""
    return {**value, "format": as_named(value["format"])} if isinstance(value, Mapping) and "format" in value else value


def as_choice(value: object) -> object:
    """Return the table that `objective = "sft"` stands for; anything else unchanged."""
    return {"name": value} if isinstance(value, str) else value


def as_names(value: object) -> object:
    """Return the list that `score = "accuracy"`, or a score with options, stands for; anything else unchanged."""
    if isinstance(value, str | Mapping):
        value = [value]
    return [as_named(item) for item in value] if isinstance(value, list | tuple) else value


def _sources(value: object) -> object:
    value = as_sources(value)
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    value = as_names(value)
    return tuple(value) if isinstance(value, list) else value


class Choice(Table):
    """A function chosen by name from a registry, or as `module:function`; the other keys are its keyword parameters."""

    model_config = ConfigDict(extra="allow")

    name: Text
    """name in the registry, or module:function for code of your own"""

    @property
    def options(self) -> dict[str, Any]:
        """The keyword parameters, as checked against the function's signature."""
        return dict(self.model_extra or {})


Scores = Annotated[tuple[Text, ...], BeforeValidator(_names, json_schema_input_type=str | Choice | list[str | Choice])]


class ModelConfig(Table):
    """What a run begins with: a model that there is, by its name, or a fresh one of chosen sizes, whose weights are random."""

    name: Text | None = None
    """hub id, folder, run directory, tiny (bundled), or another run file (.toml) that is tuned first; not set: tiny, or what init says"""
    init: Literal["llama", "vit"] | None = None
    """begin with random weights, of the sizes below, instead of with a model that there is: llama writes, vit tells what is on pictures"""
    hidden: Annotated[int, Field(ge=32)] = 256
    """features per token, or per patch of a picture, of a fresh model"""
    layers: Count = 8
    """layers of a fresh model"""
    heads: Count = 4
    """attention heads of a fresh model; model.hidden divided by them is a multiple of 32"""
    key_heads: Count = 2
    """heads of keys and values, each shared by as many attention heads"""
    feed_forward: Annotated[int, Field(ge=32)] = 704
    """features inside each layer's feed-forward part, a multiple of 32"""
    context: Annotated[int, Field(ge=16)] = 2048
    """tokens that a fresh model reads at most"""
    image: Annotated[int, Field(ge=8, le=1024)] = 64
    """pixels of a side that a fresh vit sees: pictures are resized to it"""
    patch: Annotated[int, Field(ge=2)] = 8
    """pixels of a side of the patches that a fresh vit reads; model.image is a multiple of it"""
    rope_base: Annotated[float, Field(gt=1)] = 10000.0
    """base of the rotary position encoding"""
    vocabulary: Annotated[int, Field(ge=SMALLEST_VOCABULARY)] | None = None
    """tokens of a tokenizer learned from the training texts; set this or model.tokenizer (neither: 8192)"""
    tokenizer: Text | None = None
    """take the tokenizer of this folder, run directory or hub id instead of learning one"""
    add_terms: Annotated[tuple[Text, ...], BeforeValidator(listed, json_schema_input_type=list[Text])] = ()
    """terms of your domain that become tokens of their own, trained by full tuning and the LoRA family and saved with the model"""

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has taught this model yet."""
        return self.init is not None

    def __str__(self) -> str:
        return f"a fresh {self.init} network" if self.is_fresh else str(self.name)


class SourceConfig(Table):
    """One source of rows among several."""

    source: Text
    """file, folder, public:NAME or hf:OWNER/NAME"""
    format: Annotated[str | None, BeforeValidator(as_named, json_schema_input_type=str | Choice | None)] = None
    """format of these rows; not set: data.format"""
    columns: dict[str, str] | None = None
    """standard column name = name in these rows; not set: data.columns"""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """how often each row is seen per epoch"""


Sources = Annotated[tuple[SourceConfig, ...], BeforeValidator(_sources, json_schema_input_type=str | list[str | SourceConfig])]


class DataConfig(Table):
    """What is learned from, and how it is divided."""

    source: Sources = ()
    """file, folder, public:NAME or hf:OWNER/NAME, or a list of them (each may be a table with format, columns and weight)"""
    dev: Text | None = None
    """rows of their own for choosing the best checkpoint, instead of a share"""
    test: Text | None = None
    """rows of their own for the final scores, instead of a share"""
    dev_share: Share = 0.1
    """share of the rows held out for choosing the best checkpoint"""
    test_share: Share = 0.1
    """share of the rows held out for the final scores"""
    format: Annotated[Text, BeforeValidator(as_named, json_schema_input_type=str | Choice)] = "auto"
    """format of the rows, perhaps a table with its options: {name = "feedback", as_ = "rated"}; auto guesses it from the columns"""
    columns: dict[str, str] = Field(default_factory=dict)
    """standard column name = name in your rows"""
    prompt: str | None = None
    """template put around the input where an answer is generated, such as "Classify: {text}\""""
    system: str | None = None
    """system message put before every dialog that has none"""
    learn: Literal["all", "last", "everything"] = "all"
    """which turns of the assistant are learned: all, or the last; everything: each token of a dialog alike, prompts too"""
    max_length: Count | None = None
    """tokens of the longest sequence; not set: what the model can read"""
    long_rows: Literal["drop", "cut", "fail"] = "drop"
    """what happens to rows over max_length"""
    repair: bool = False
    """apply repairs that are unambiguous, such as a wrong answer offset with a unique match"""
    limit: Count | None = None
    """number of rows taken, chosen by the seed"""
    near_duplicates: bool = True
    """keep near-duplicate rows on one side of the split"""

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The sources, with format and columns of the whole filled in where a source has none of its own."""
        return tuple(
            item.model_copy(
                update={
                    "format": self.format if item.format is None else item.format,
                    "columns": dict(self.columns if item.columns is None else item.columns),
                }
            )
            for item in self.source
        )


class TrainConfig(Table):
    """How long, how much at once, how fast."""

    steps: Count | None = None
    """optimizer steps; set this or epochs"""
    epochs: Count | None = None
    """passes over the training rows; set this or steps (neither: 3 epochs)"""
    batch: Count = 16
    """examples per optimizer step, whatever the memory holds"""
    tokens: Count = 8192
    """token budget of a micro-batch; cuts a step into pieces that fit in memory, changes no result"""
    packing: bool = False
    """lay several sequences into one row, isolated from each other"""
    temperature: Annotated[float, Field(ge=1)] = 1.0
    """how several tasks share a step where they name no shares: 1 in proportion to their rows, greater ones more evenly"""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """highest learning rate; not set: by technique, width of the model and objective"""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """how the learning rate goes on after the warm-up"""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.03
    """share of the steps over which the learning rate rises"""
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw8bit: AdamW's averages in a quarter of the memory; muon: orthogonal steps of hidden matrices, all else stays with AdamW"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """decoupled weight decay"""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """decay of AdamW's second moment"""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """greatest norm of the gradient; 0: not clipped"""
    compile: bool = False
    """compile the layers by torch instead of taking the quick pieces: a slower start; it pays for architectures that have none"""
    fast: bool = True
    """take the quick pieces of training instead of their plain twins; false: everything as the ecosystem computes it, for comparing"""
    recompute: bool | None = None
    """compute what layers hold inside again in the backward pass: less memory, a third more arithmetic; not set: where memory is short"""
    reuse: bool | None = None
    """compute layers below all that moves once for all epochs; not set: where they drop nothing out; true: they shall drop nothing"""
    average: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of what was learned that the result keeps: its weights are averaged with the base's by it; below 1 less is forgotten"""


class TaskConfig(Table):
    """One of several tasks that a model learns at once: its own data, objective and scores, and its part of each step and of the loss."""

    data: Annotated[DataConfig, BeforeValidator(as_data, json_schema_input_type=str | list[str | SourceConfig] | DataConfig)] = (
        DataConfig()
    )
    """what is learned from for this task; fields left out are those of the run's [data]"""
    objective: Annotated[Choice, BeforeValidator(as_choice, json_schema_input_type=str | Choice)] = Choice(name="sft")
    """what loss; not set: the run's"""
    score: Scores = ()
    """scores by name, the first one decides; not set: the run's, or chosen from the data"""
    share: Annotated[float, Field(gt=0)] | None = None
    """part of a step's rows, in proportion to the other tasks' shares; set for all tasks or for none (none: by train.temperature)"""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """factor of this task's loss, which is a mean over its own rows"""
    single: Text | None = None
    """run directory of a run with this task alone, or a run file that is tuned first: both are compared on the rows held out here"""


class SaveConfig(Table):
    """Checkpoints on the way."""

    every: CountOrZero = 0
    """steps between checkpoints; 0: about ten per run"""
    keep: Annotated[int, Field(ge=2)] = 2
    """newest checkpoints kept, beside the best one; two at least, so that one survives a damaged file"""


class EvaluateConfig(Table):
    """Measuring during and after tuning."""

    every: CountOrZero = 0
    """steps between evaluations on the dev rows; 0: about five per run"""
    limit: Count | None = None
    """dev rows per evaluation during tuning; not set: all"""
    patience: CountOrZero = 0
    """stop after this many evaluations without improvement; 0: never"""
    best: bool = True
    """keep the checkpoint with the best dev score instead of the last one"""
    max_tokens: Count | None = None
    """longest generated answer in tokens; not set: from the references"""
    batch: Count = 64
    """answers generated at once"""
    baseline: bool = True
    """put a classical baseline beside the model in the final table"""
    forgetting: bool = True
    """put general questions to the base and to the tuned model too, and report what was forgotten"""


class LogConfig(Table):
    """What is written down while tuning."""

    every: Count = 10
    """steps between two lines of metrics"""
    tensorboard: bool = True
    """write TensorBoard events beside metrics.jsonl"""


class RunConfig(Table):
    """One run: a model, data, an objective, a technique, and how they are put together."""

    model_config = ConfigDict(title="burnish run file")

    model: Annotated[ModelConfig, BeforeValidator(as_model, json_schema_input_type=str | ModelConfig)] = ModelConfig(
        name=DEFAULT_MODEL
    )
    """what the run begins with"""
    output: Text = "runs/run"
    """folder of the results, relative to the current folder; not set: runs/ and the name of the run file or its folder"""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """every random choice follows from it"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """type of the weights in memory; auto chooses by device"""
    threads: CountOrZero = 0
    """processor threads; 0: left to torch"""
    score: Scores = ()
    """scores by name or as {name = …, OPTION = …}, the first one decides; empty: chosen from the data"""
    data: Annotated[DataConfig, BeforeValidator(as_data, json_schema_input_type=str | list[str | SourceConfig] | DataConfig)] = (
        DataConfig()
    )
    """what is learned from"""
    objective: Annotated[Choice, BeforeValidator(as_choice, json_schema_input_type=str | Choice)] = Choice(name="sft")
    """what loss"""
    technique: Annotated[Choice, BeforeValidator(as_choice, json_schema_input_type=str | Choice)] = Choice(name="lora")
    """which parameters may move"""
    task: dict[str, TaskConfig] = Field(default_factory=dict)
    """several tasks by name instead of one: each a table with data, objective, score, share and weight"""
    teacher: Text | None = None
    """model that the objective distill imitates: a hub id, a folder, a run directory or a bundled model, with the same tokenizer"""
    rollout: RolloutConfig = RolloutConfig()
    """how a model attempts tasks in reinforcement learning"""
    train: TrainConfig = TrainConfig()
    """how long, how much at once, how fast"""
    save: SaveConfig = SaveConfig()
    """checkpoints on the way"""
    evaluate: EvaluateConfig = EvaluateConfig()
    """measuring during and after tuning"""
    log: LogConfig = LogConfig()
    """what is written down while tuning"""
    decide: DecideConfig = DecideConfig()
    """what `burnish decide` compares"""

    def of_task(self, name: str) -> RunConfig:
        """Return the run as if it had this task alone; the run itself where it has no tasks by name."""
        if not self.task:
            return self
        task = self.task[name]
        return self.model_copy(update={"data": task.data, "objective": task.objective, "score": task.score, "task": {}})

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks; one called main where there is only one."""
        return tuple(self.task) or (ONE_TASK,)


TABLES: dict[str, type[Table]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "objective": Choice,
    "technique": Choice,
    "rollout": RolloutConfig,
    "train": TrainConfig,
    "save": SaveConfig,
    "evaluate": EvaluateConfig,
    "log": LogConfig,
    "decide": DecideConfig,
}


def descriptions() -> dict[str, str]:
    """Return every field of a run by its dotted name, with the sentence that explains it."""
    found: dict[str, str] = {}
    for name, field in RunConfig.model_fields.items():
        if name == "task":
            found.update({f"task.NAME.{key}": item.description or "" for key, item in TaskConfig.model_fields.items()})
        elif name in TABLES:
            found.update({f"{name}.{key}": item.description or "" for key, item in TABLES[name].model_fields.items()})
        else:
            found[name] = field.description or ""
    return found
