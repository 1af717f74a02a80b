"""The runs behind docs/reproduction.md: the papers' comparisons, as small as two cores ask for."""

from dataclasses import dataclass
from pathlib import Path

# What every small training shares: $PHOTOS is COCO, or a folder in its layout.
TRAIN = (
    "python scripts/train.py style.image=$PAINTING data=coco data.root=$PHOTOS data.crop_px=128 "
    "data.batch_size=4 data.num_val=16 trainer.val_check_interval=50 schedule=constant"
)
RESTORE = (
    "python scripts/train.py data=coco data.root=$PHOTOS data.crop_px=144 data.num_val=16 "
    "trainer.val_check_interval=100 schedule=warm_up_then_anneal"
)
PHOTO = "src/allaprima/assets/photos/val/castle-above-forest.jpg"
GATYS = (
    f"python scripts/gatys.py content={PHOTO} style.image=$PAINTING size_px=320 style.size_px=320 "
    "evaluations=[150]"
)
STEPS = "trainer.max_steps=300"
PLACES = {
    "train.py": ("hydra.run.dir={folder}",),
    "evaluate.py": ("hydra.run.dir={folder}",),
    "gatys.py": ("output={folder}/picture.png", "record={folder}/record.json"),
    "gatys_pastiche.py": ("--output", "{folder}/record.json"),
}
RESULTS = {
    "train.py": "*.safetensors",
    "evaluate.py": "evaluation.json",
    "gatys.py": "record.json",
    "gatys_pastiche.py": "record.json",
}


@dataclass(frozen=True)
class Run:
    """A command, as a reader would type it, and what it leaves in a folder of its name."""

    name: str
    command: str

    @property
    def program(self) -> str:
        return Path(self.command.split()[1]).name

    @property
    def places(self) -> tuple[str, ...]:
        """Arguments that say where to write, with ``{folder}``."""
        return PLACES[self.program]

    def result(self, folder: Path) -> Path | None:
        """The file that a finished run leaves, or None."""
        return next((folder / self.name).glob(RESULTS[self.program]), None)


def evaluation(checkpoint: str, arguments: str) -> str:
    file = f"outputs/reproduction/{checkpoint}/starry_night.safetensors"
    return f"python scripts/evaluate.py checkpoint={file} style.image=$PAINTING {arguments}"


RUNS = [
    Run(
        "half_hour",
        "python scripts/train.py style.image=$PAINTING data=coco data.root=$PHOTOS "
        "data.crop_px=192 budget=30m",
    ),
    Run("yardstick_256", evaluation("half_hour", "sizes=[256] starts=[noise] data.num_val=5")),
    Run(
        "yardstick_256_content",
        evaluation("half_hour", "sizes=[256] starts=[content] until_beaten=true"),
    ),
    Run(
        "yardstick_512",
        evaluation("half_hour", "sizes=[512] starts=[noise] until_beaten=true data.num_val=2"),
    ),
    Run(
        "yardstick_1024",
        evaluation("half_hour", "sizes=[1024] starts=[noise] evaluations=10 data.num_val=1"),
    ),
    *(
        Run(
            f"{norm}_{network}",
            f"{TRAIN} experiment=ulyanov2016b_{norm}_{network} generator.filters=[16,32,64] {STEPS}"
            if network == "johnson"
            else f"{TRAIN} experiment=ulyanov2016b_{norm}_{network} {STEPS}",
        )
        for network in ("johnson", "ulyanov")
        for norm in ("batch", "instance")
    ),
    *(
        Run(
            f"photos_{name}",
            f"{TRAIN} experiment=ulyanov2016a_stylization data.num_train_photos={count} {STEPS}",
        )
        for name, count in (("few", "16"), ("many", "null"))
    ),
    Run(
        "texture",
        "python scripts/train.py style.image=$PAINTING experiment=ulyanov2016a_texture "
        "data.crop_px=128 data.batch_size=4 trainer.val_check_interval=50 trainer.max_steps=300",
    ),
    Run("superres4", f"{RESTORE} experiment=johnson2016_superres4 trainer.max_steps=900"),
    Run("superres8", f"{RESTORE} experiment=johnson2016_superres8 trainer.max_steps=500"),
    Run("colorization", f"{RESTORE} experiment=johnson2016_colorization trainer.max_steps=500"),
    *(
        Run(name, f"{GATYS} experiment={experiment}")
        for name, experiment in {
            "gatys": "gatys2016",
            "vgg16": "gatys2016 loss_network=vgg16 loss_network.pooling=average",
            "max_pooling": "gatys2016 loss_network.pooling=max",
            "from_content": "gatys2016 init=content",
            "from_style": "gatys2016 init=style",
            "from_other_noise": "gatys2016 seed=1",
            "keras_example": "keras_example",
            "improved": "improved",
            "novak_nikulin": "novak_nikulin2016",
            "novak_nikulin_paper": "novak_nikulin2016 loss=novak_nikulin2016_paper",
        }.items()
    ),
    Run(
        "pastiche",
        f"python benchmarks/gatys_pastiche.py {PHOTO} $PAINTING --size-px 512 --evaluations 100",
    ),
]
