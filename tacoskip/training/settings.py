"""Settings of training."""

from dataclasses import dataclass

from tacoskip.settings import LARGEST_SIZE, setting


@dataclass
class TrainSettings:
    """How a run trains, and when it stops: at `max_steps`, or after `max_minutes` where not 0."""

    max_steps: int = setting(100_000, "Steps of the run.", above=0)
    max_minutes: float = setting(
        0.0, "Training minutes of the run, counted over all its resumes; 0: no limit."
    )
    learning_rate: float = setting(
        1e-3, "Highest learning rate; it then falls along a cosine.", above=0
    )
    warmup_steps: int = setting(200, "Steps over which the learning rate rises.")
    clip_norm: float = setting(1.0, "Largest norm of the gradient.", above=0)
    precision: str = setting(
        "auto",
        "Arithmetic of the networks; auto: bf16 on a GPU, else fp32. tf32: fp32 whose products a "
        "GPU rounds to TF32, as it does with bf16 and fp16.",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
    )
    device: str = setting("auto", "Where to train.", choices=("auto", "cpu", "cuda"))
    threads: int = setting(0, "CPU threads of torch; 0: torch's choice.", most=LARGEST_SIZE)
    deterministic: bool = setting(
        False, "Use only algorithms that give the same bits each time; needs max_minutes=0."
    )
    log_every: int = setting(20, "Steps between two logged losses.", above=0)
    evaluate_every: int = setting(500, "Steps between two evaluations.", above=0)
    keep: int = setting(3, "Newest checkpoints kept on disk, beside the best.", above=0)
    checkpoint_minutes: float = setting(5.0, "Minutes between two checkpoints.")
    select: str = setting(
        "mcd_db",
        "Figure that names the best checkpoint: mcd_db, alignment, loss or cer_by_asr of a voice; "
        "cer, wer or loss of a recognizer.",
        choices=("mcd_db", "alignment", "cer_by_asr", "loss", "cer", "wer"),
    )
    judge: str = setting(
        "",
        "Run of a recognizer, or whisper[:SIZE or :FOLDER], that transcribes a voice.",
    )
    sentences: list[str] = setting([], "Sentences a voice synthesizes for TensorBoard.")

    def __post_init__(self) -> None:
        if self.deterministic and self.max_minutes:
            raise ValueError(
                "expected train.max_minutes=0 with train.deterministic=true (a clock stops no two "
                f"runs at the same step), got {self.max_minutes:g}; use train.max_steps"
            )
