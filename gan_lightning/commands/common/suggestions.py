"""Suggestions for words that are not flags: the names that other programs give to a setting, and misspelt names."""

from collections.abc import Collection

from gan_lightning.commands.common.recipes import REPLACED, YAML, recipes
from gan_lightning.errors import nearest, normalised

LEARNING_RATES = "--model.generator_optimizer.lr and --model.discriminator_optimizer.lr"
MEANT = {
    "--batch_size": "batch bs b",
    "--data.batch_size": "batch_size batch bs b train_batch_size",
    "--data.num_workers": "num_workers workers n_workers nworkers n_cpu j",
    "--data.root": "root data_dir datadir data_root dataroot data_path datapath dataset_dir path dir folder",
    "--data.path": "root data_dir data_root dataroot data_path dataset_name name folder",
    "--real": "real_images real_dir real_path",
    "--data": "dataset datasets dset",
    "--data.image_size": "image_size img_size imsize imagesize resolution res size",
    "--image_size": "img_size imsize imagesize resolution res size",
    "--data.horizontal_flip": "horizontal_flip flip hflip mirror xflip",
    "--max_epochs": "epochs epoch num_epochs n_epochs nepochs niter total_epochs e",
    "--max_steps": "steps step num_steps n_steps total_steps iterations iters num_iterations num_iters n_iter max_iter epochs",
    "--steps": "step num_steps n_steps iterations iters num_iterations num_iters n_iter epochs",
    "--seed_everything": "seed random_seed manual_seed manualseed seeds",
    "--seed": "random_seed manual_seed manualseed",
    "--seeds": "random_seed manual_seed manualseed",
    LEARNING_RATES: "lr learning_rate g_lr d_lr lr_g lr_d glr dlr",
    "--model.generator.latent_dim": "latent_dim latent_size z_dim zdim nz latent z",
    "--model.generator": "generator g_arch netg",
    "--model.discriminator": "discriminator critic d_arch netd",
    "--model.loss": "loss loss_type adv_loss gan_loss gan_mode gan_type",
    "--model.penalty": "penalty gp regularizer",
    "--model.penalty.gamma": "gamma r1_gamma r1 lambda_gp gp_weight",
    "--model.discriminator_steps": "discriminator_steps n_critic ncritic critic_iters d_steps n_dis num_d_steps",
    "--model.ema_halflife": "ema ema_decay ema_beta use_ema",
    "--model.augmentation": "augmentation augment aug diffaug diffaugment ada",
    "--model.compile true": "compile torch_compile",
    "--accelerator gpu --devices N": "gpus num_gpus n_gpus n_gpu ngpu gpu_ids",
    "--accelerator gpu": "gpu cuda use_cuda use_gpu device devices",
    "--accelerator cpu": "cpu no_cuda nocuda no_gpu",
    "--precision": "fp16 use_fp16 bf16 float16 half amp use_amp mixed_precision dtype",
    "--ckpt_path": "resume resume_from resume_from_checkpoint checkpoint ckpt checkpoint_path load load_path restore",
    "--ckpt_path last": "continue continue_train auto_resume",
    "--init_from": "pretrained weights init init_weights finetune load_weights pretrained_path",
    "--default_root_dir": "output out outdir out_dir output_dir logdir log_dir save_dir savedir results_dir result_dir o",
    "--output": "out outdir out_dir output_dir output_path save_dir savedir save_path result_dir o",
    "--logger wandb": "wandb use_wandb",
    "--logger tensorboard": "tensorboard tb",
    "--dry_run": "dryrun dry check",
    "--config": "cfg c conf config_file yaml recipe preset",
    "--checkpoints.every_n_steps": "save_every save_freq save_interval checkpoint_every checkpoint_interval snap",
    "--image_grid.every_n_steps": "sample_interval sample_every sample_freq",
    "--metrics.every_n_steps": "eval_every eval_freq eval_interval",
    "--num_images": "n num num_samples n_samples nsamples samples count num_gen num_fake",
    "--class": "classes label labels cls class_idx class_id y",
    "--condition": "conditions attributes attribute attrs",
    "--truncation": "psi trunc truncation_psi",
    "--metrics": "metric",
    "--extractor": "feature_extractor backbone features",
    "--formats": "format",
    "--recipes": "config configs recipe",
    "--raw": "no_ema noema",
}  # fmt: skip
"""Right name -> the names that other programs, or other commands of this project, give to it."""
SUBCOMMANDS = {
    "fit": "train.py has no subcommands: remove the word",
    "train": "train.py has no subcommands: remove the word",
    "validate": "measure a checkpoint with evaluate.py CHECKPOINT",
    "test": "measure a checkpoint with evaluate.py CHECKPOINT --split test",
    "predict": "draw from a checkpoint with sample.py CHECKPOINT",
}
"""Subcommands of Lightning's command line -> what to type here."""


def for_flag(flag: str, known: Collection[str], positional: Collection[str] = (), otherwise: str = " (see --help)") -> str:
    """Suggest what to type instead of a flag that does not exist; the text completes a message.

    Args:
        flag: with its dashes, without a value.
        known: names of the flags, without dashes; the bare name of a section stands for all flags ``--SECTION.X``.
        positional: names of the arguments that are given without a flag.
        otherwise: the text if no name is near.
    """
    name = flag.lstrip("-").rstrip("+")
    new = REPLACED.get(name)
    if new == "":
        return " any longer; remove it"
    if new in known:
        return f"; use --{new}"
    if argument := next((argument for argument in positional if _means(name, argument)), None):
        return f"; give the {argument} without a flag in front"
    alike = next((other for other in sorted(known) if normalised(other) == normalised(name)), None)
    meant = f"--{alike}" if alike else _meant(name, known)
    return f"; did you mean {meant}?" if meant else nearest(name, known, "--") or otherwise


def _meant(name: str, known: Collection[str]) -> str | None:
    """Find what other programs call ``name`` (its last part, if it has several) among the known flags."""
    for words, names in MEANT.items():
        flags = [word.removeprefix("--") for word in words.split() if word.startswith("--")]
        there = all(flag in known or flag.partition(".")[0] in known for flag in flags)
        if there and words != f"--{name}" and name.rpartition(".")[2].lower().replace("-", "_") in names.split():
            return words
    return None


def _means(name: str, argument: str) -> bool:
    of_a_checkpoint = name == "ckpt_path" or _meant(name, ["ckpt_path"]) is not None
    return normalised(name) == normalised(argument) or (argument in ("checkpoint", "source") and of_a_checkpoint)


def for_word(word: str, known: Collection[str]) -> str:
    """Suggest what to do about a word that is neither a flag nor the value of a flag; the text completes a message."""
    if word in SUBCOMMANDS and "ckpt_path" in known:
        return f"; {SUBCOMMANDS[word]}"
    if "config" in known and (word in recipes() or word.lower().endswith(YAML)):
        return f"; did you mean --config {word}?"
    if "ckpt_path" in known and word.endswith(".ckpt"):
        return f"; did you mean --ckpt_path {word}?"
    if "=" in word and (name := word.partition("=")[0].lstrip("-")) and (name in known or _meant(name, known)):
        return f"; did you mean --{word.lstrip('-')}?"
    return "; flags begin with --, and a value with spaces needs quotes"
