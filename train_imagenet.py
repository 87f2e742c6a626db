"""Train a supernet (--model ShuffleNas) or a subnet (--model ShuffleNas_fixArch).

Results lie in --save-dir: config.json, log.jsonl, checkpoints/ and, at the end, model.params. The same command
continues a run that was stopped.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from oneshot_nas_network import Subnet, Supernet
from spos import assembly, trainer
from spos.architectures import named_architecture
from spos.checkpoint import load_arrays, load_parameters, newest_checkpoint, save_parameters
from spos.compat import mx
from spos.data import DataSet
from spos.errors import InputError
from spos.evaluation import CandidateEvaluator, evaluate
from spos.losses import SMOOTHING, ClassificationLoss
from spos.options import (
    ArchitectureOptions,
    DataOptions,
    DeviceOptions,
    OneLineParser,
    RunOptions,
    SpaceOptions,
    TrainOptions,
    as_json,
    pick,
    run_program,
)
from spos.path_trainer import PathTrainer, make_optimizer
from spos.records import LISTS_FOLDER, LOG_FILE, MODEL_FILE, Journal, open_run
from spos.reporting import RunLog
from spos.sampling import SamplingPolicy
from spos.schedule import decay_epochs, derive_rng, derive_seed
from spos.search_space import SearchSpace

GROUPS = (RunOptions, TrainOptions, DataOptions, SpaceOptions, ArchitectureOptions, DeviceOptions)
SUPERNET, SUBNET = "ShuffleNas", "ShuffleNas_fixArch"
DEFAULT_SAVE_DIR = {SUPERNET: "runs/supernet", SUBNET: "runs/subnet"}


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    run, options, data_options, space_options, named, device_options = (pick(group, args) for group in GROUPS)
    save_dir = Path(run.save_dir or DEFAULT_SAVE_DIR[options.model])
    record = named_architecture(named, space_options)
    check_flags(options, record)
    data = assembly.open_data(data_options)
    ctx = assembly.make_devices(device_options)
    fit = assembly.fit_to_data(space_options, data)
    space = replace(record.space, **fit) if record else assembly.make_space(space_options, data)
    net = make_net(run, options, space, record, ctx, device_options.dtype)
    config = {
        "program": "train_imagenet.py",
        "options": as_json(run, options, data_options, space_options, named, device_options),
        "space": space.to_json(),
        "fingerprint": space.fingerprint,
        "architecture": replace(record, space=space).to_json() if record else None,
        "data": data.name,
        "versions": assembly.versions(),
    }
    open_run(save_dir, config, run.resume)
    data = assembly.with_lists(data, data_options, save_dir / LISTS_FOLDER)

    job = make_job(save_dir, run, options, data_options, data, net, ctx, device_options.dtype)
    log = RunLog(Journal(save_dir / LOG_FILE), options.logging_file)
    job.log = log.epoch
    first_epoch = start(job, save_dir, options)
    log.keep_epochs_before(first_epoch)
    if first_epoch < options.num_epochs:
        trainer.train(job, first_epoch)
    save_parameters(save_dir / MODEL_FILE, job.net)
    log.line(f"finished; parameters are in {save_dir / MODEL_FILE}")
    return 0


def check_flags(options: TrainOptions, record: Any) -> None:
    """Refuse flags that cannot work together."""
    if options.model == SUBNET and record is None:
        raise InputError(f"--model {SUBNET} needs --architecture, or --block-choices with --channel-choices")
    if options.model == SUPERNET and record is not None:
        raise InputError(f"--model {SUPERNET} trains all architectures; leave out --architecture and choices")
    if options.model == SUBNET and (options.use_all_blocks or options.use_all_channels or options.cs_warm_up):
        raise InputError("--use-all-blocks, --use-all-channels and --cs-warm-up are for a supernet")
    if not options.resume_params and (options.resume_states or options.resume_epoch > 0):
        raise InputError("--resume-states and --resume-epoch need --resume-params")
    if options.warmup_epochs >= options.num_epochs:
        raise InputError(f"--warmup-epochs {options.warmup_epochs} leaves nothing of --num-epochs {options.num_epochs}")
    decay_epochs(options.lr_decay_epoch, options.lr_decay_period, options.num_epochs)


def make_net(
    run: RunOptions, options: TrainOptions, space: SearchSpace, record: Any, ctx: tuple, dtype: str
) -> mx.gluon.Block:
    """The supernet, or the subnet of `record`, with the values that training begins with."""
    mx.random.seed(derive_seed(run.seed, "initial values"))
    if record:
        net: mx.gluon.Block = Subnet(space, record.architecture)
    else:
        net = Supernet(space, options.execution, options.use_all_blocks)
    net.initialize(ctx=list(ctx))
    net.cast(dtype)
    if options.resume_params:
        load_parameters(options.resume_params, net)
    if options.mode == "hybrid" and record:
        net.hybridize(static_alloc=True, static_shape=True)
    elif options.mode == "hybrid" and ctx[0].device_type == "gpu":  # on CPU a supernet is not faster hybridized
        net.hybridize()
    return net


def make_job(
    save_dir: Path,
    run: RunOptions,
    options: TrainOptions,
    data_options: DataOptions,
    data: DataSet,
    net: mx.gluon.Block,
    ctx: tuple,
    dtype: str,
) -> trainer.TrainingJob:
    """Loader, optimizer, sampling and validation of the run."""
    is_subnet, space = isinstance(net, Subnet), net.space
    split = options.train_on or ("train_full" if is_subnet else "train")
    loader = assembly.make_loader(
        data, split, data_options, len(ctx), True, run.seed, reduced_scale=options.reduced_dataset_scale
    )
    optimizer = make_optimizer(options.lr, options.momentum, options.wd, dtype)
    policy = SamplingPolicy(space, options.epoch_start_cs, options.cs_warm_up, options.use_all_channels)
    job = trainer.TrainingJob(
        net=net,
        trainer=PathTrainer(net, optimizer, options.no_wd),
        loader=loader,
        loss=ClassificationLoss(space.num_classes, SMOOTHING if options.label_smoothing else 0.0),
        schedule=trainer.make_schedule(
            options.lr_mode,
            options.lr,
            options.num_epochs,
            loader.num_batches,
            options.warmup_lr,
            options.warmup_epochs,
            options.lr_decay,
            decay_epochs(options.lr_decay_epoch, options.lr_decay_period, options.num_epochs),
        ),
        num_epochs=options.num_epochs,
        ctx=ctx,
        run=str(save_dir),
        seed=run.seed,
        dtype=dtype,
        sampler=None if is_subnet else policy,
        save_frequency=options.save_frequency,
        keep_checkpoints=options.keep_checkpoints,
        log_interval=options.log_interval,
    )
    load = partial(assembly.make_cached_loader, data, options=data_options, num_devices=len(ctx))
    if is_subnet:
        measure = partial(validate_subnet, net, load("test"), ctx, dtype)
    else:
        evaluator = CandidateEvaluator(net, load("bn"), load("search_val"), None, ctx)
        measure = partial(validate_supernet, evaluator, policy, options.val_architectures, run.seed)
    job.validate = partial(validate_when_due, measure, options.val_frequency, options.num_epochs)
    return job


def start(job: trainer.TrainingJob, save_dir: Path, options: TrainOptions) -> int:
    """Load what the run begins with. Returns the number of epochs already done."""
    checkpoint = newest_checkpoint(save_dir)
    if checkpoint:
        print(f"continuing {save_dir} after epoch {checkpoint.epoch}", flush=True)
        return trainer.resume(job, checkpoint)
    if options.resume_states:
        job.trainer.set_states(load_arrays(options.resume_states))
    return max(options.resume_epoch, 0)


def validate_when_due(measure: Callable, frequency: int, num_epochs: int, epoch: int) -> Dict[str, Any]:
    """Metrics of `measure(epoch)` every `frequency` epochs (0: never) and after the last."""
    due = epoch + 1 == num_epochs or (frequency > 0 and (epoch + 1) % frequency == 0)
    return measure(epoch) if due else {}


def validate_subnet(net: mx.gluon.Block, loader: Any, ctx: tuple, dtype: str, epoch: int) -> Dict[str, Any]:
    """Accuracy on the test images."""
    accuracy = evaluate(net, loader.epoch(0), ctx, dtype)
    return {"val_top1": accuracy.top1, "val_top5": accuracy.top5, "val_images": accuracy.num_images}


def validate_supernet(
    evaluator: CandidateEvaluator, policy: SamplingPolicy, num_architectures: int, seed: int, epoch: int
) -> Dict[str, Any]:
    """Mean accuracy of architectures sampled as in this epoch, each after a BatchNorm update, on held-out images."""
    rng = derive_rng(seed, "validation")
    scores = [evaluator(policy(epoch, rng)) for _ in range(num_architectures)]
    return {
        "val_top1": sum(score.top1 for score in scores) / len(scores),
        "val_top5": sum(score.top5 for score in scores) / len(scores),
        "val_top1_each": [score.top1 for score in scores],
        "val_images": scores[0].num_images,
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
