"""What experiments share: their data set, their trained network, noisy images, layers that were asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.settings import DataSettings, NetworkSettings, NoiseSettings, PictureSettings, SamplingSettings
from wna_jax import data, figures, noise, responses, templates
from wna_jax.correlation import draw_samples
from wna_jax.networks import Foreign, Network, checkpoints, foreign, models, training, units
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Report
from wna_jax.studies import interventions

NO_DATA = "none"


class TrainedNetwork(NamedTuple):
    """A network, what its training measured, and whether it comes from a checkpoint, not trained now.

    One of the user's own is here a function images -> logits; `own` is what was given.
    """

    network: Any
    metrics: dict[str, Any]
    was_loaded: bool
    own: Foreign | None = None

    @property
    def test_accuracy(self) -> float:
        """On the test images, a fraction."""
        return self.metrics["test_accuracy"]

    @property
    def layered(self) -> Any:
        """The network as `units` takes it."""
        return self.own.network if self.own else self.network

    @property
    def outputs(self) -> responses.Outputs | None:
        """What the network returns, as `responses.of_network` is told."""
        labels = self.own is not None and self.own.outputs in responses.LABELS
        return "label_logits" if labels else "logits" if self.own else None


def load_data(settings: DataSettings, report: Report) -> data.Dataset:
    """The data set that the settings ask for."""
    return data.load(settings.dataset, settings.data_dir, report, settings.image_size)


def load_classes(settings: DataSettings, report: Report) -> data.Dataset:
    """The data set, which must have at least two classes, with training images of each."""
    dataset = load_data(settings, report)
    data.check_classes(dataset)
    return dataset


def epochs_for(settings: NetworkSettings, dataset: data.Dataset) -> int:
    """The epochs that were asked for, or those that suit data set and network."""
    return training.default_epochs(dataset.name, settings.model) if settings.epochs is None else settings.epochs


def trained_network(
    settings: NetworkSettings, dataset: data.Dataset, report: Report, augmentation: str | None = None
) -> TrainedNetwork:
    """The network that the settings ask for, from its checkpoint or trained now.

    Of an augmentation of its own, "none" among them, or by default of that which suits the data set. A network of the
    user's own is loaded, and asked about the test images.
    """
    asked = getattr(settings, "augmentation", None) if augmentation is None else augmentation
    if foreign.is_named(settings.model):
        return of_own(settings, load_own(settings), dataset)
    usual = training.default_augmentation(dataset.name)
    spec = training.TrainingSpec(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        model=settings.model,
        seed=settings.train_seed,
        epochs=epochs_for(settings, dataset),
        augmentation={None: usual, "none": None}.get(asked, asked),
    )
    module = models.create(spec.model, dataset.image_shape, dataset.num_classes)
    directory = Path(settings.checkpoint_dir).expanduser()
    trained, was_loaded = checkpoints.load_or_train(spec, dataset, directory, settings.retrain, report)
    network = Network(module, trained.parameters, getattr(settings, "precision", "float32"))
    return TrainedNetwork(network, trained.metrics, was_loaded)


def title_of(settings: NetworkSettings, dataset: data.Dataset) -> str:
    """The network and its data in titles, such as "paper_cnn on mnist"; without data the network alone."""
    network = foreign.title_of(settings.model)
    if asked := getattr(settings, "augmentation", None):
        network += f" (augmentation: {asked})"
    return network if dataset.name == NO_DATA else f"{network} on {dataset.title}"


def load_own(settings: NetworkSettings) -> Foreign:
    """The network that a function of the user's own returns; an InputError in experiments that train theirs."""
    if not settings.TAKES_OWN_NETWORKS:
        raise InputError(f"model is {settings.model!r}: this experiment takes one of {', '.join(models.NAMES)}")
    return foreign.load(settings.model)


def of_own(settings: NetworkSettings, own: Foreign, dataset: data.Dataset) -> TrainedNetwork:
    """A network of the user's own, which must fit the data.

    Raises:
        InputError: images of another shape than the data's, or another number of classes.
    """
    shape, name, own_name = dataset.image_shape, dataset.name, settings.model
    if own.image_shape not in (None, shape):
        way_out = "give --image_size, other data, or a network of such images"
        raise InputError(f"{own_name} takes images {own.image_shape}, those of {name} are {shape}: {way_out}")
    network = responses.as_logits(own)
    count = _num_classes(network, shape)
    if count != dataset.num_classes:
        expected = "expected as many; choose classes as in --dataset=mnist:5,6, or take --dataset=none"
        raise InputError(f"{own_name} answers {count} classes, {name} has {dataset.num_classes}: {expected}")
    if name == NO_DATA:
        return TrainedNetwork(network, {"test_accuracy": None}, True, own)
    if own.class_names and tuple(own.class_names) != dataset.class_names:
        ours, theirs = (", ".join(names[:4]) for names in (own.class_names, dataset.class_names))
        raise InputError(f"the classes of {own_name} are {ours}, ..., of {name} {theirs}, ...: expected one order")
    accuracy = training.evaluate(network, dataset.test)["accuracy"]
    responses.warn_near_chance(f"{own_name} calls {accuracy:.1%} of the test images right", accuracy, count)
    return TrainedNetwork(network, {"test_accuracy": accuracy}, True, own)


def _num_classes(network: Any, shape: tuple[int, ...]) -> int:
    with responses.explained((1, *shape), f"expected a network of images [n, {', '.join(map(str, shape))}] in [0, 1]"):
        return compilation.shape_of(network, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[-1]


def without_data(own: Foreign, image_shape: tuple[int, ...] | None, asks: bool = False) -> data.Dataset:
    """A data set of no images: the classes and the image shape of a network.

    Args:
        own: the network.
        image_shape: that which the user gives.
        asks: whether there is a flag for it.
    """
    shape = image_shape or own.image_shape
    if shape is None or len(shape) != 3 or (own.image_shape and tuple(shape) != own.image_shape):
        known = f"the network takes {own.image_shape}" if own.image_shape else "the network does not say it"
        given = "none is given" if shape is None else f"image_shape is {','.join(map(str, shape))}"
        known_shape = ",".join(map(str, own.image_shape or (28, 28, 1)))
        way_out = (
            f"give --image_shape={known_shape}"
            if asks
            else "have the function return networks.Foreign(network, (28, 28, 1))"
        )
        raise InputError(f"--dataset=none needs an image shape, {given}, {known}: {way_out}")
    height, width, channels = shape
    names = own.class_names or list(map(str, range(_num_classes(responses.as_logits(own), shape))))
    nothing = data.Split(np.zeros((0, height, width, channels), np.uint8), np.zeros(0, np.int32))
    return data.Dataset(NO_DATA, nothing, nothing, nothing, tuple(names), NO_DATA)


def reference_of(settings: PictureSettings, dataset: data.Dataset) -> str:
    """The reference that is asked for; by default the median, without training images the blur."""
    return settings.reference or ("median" if len(dataset.train.images) else "blur")


def read_picture(name: str | Path, dataset: data.Dataset) -> tuple[np.ndarray, str]:
    """An image file as the network takes it, float32 [H, W, C] in [0, 1], and what was done to it, in words."""
    image, done = data.read_image(Path(name).expanduser(), dataset.image_shape)
    return image / np.float32(255), done


def check_test_images(dataset: data.Dataset) -> None:
    """Raises an InputError where there are no test images to take a picture from."""
    if not len(dataset.test.labels):
        raise InputError(f"--dataset={NO_DATA} has no test images: give --image, an image file")


def create_noise(settings: NoiseSettings, dataset: data.Dataset, report: Report) -> noise.Noise:
    """The noise that the settings ask for, in the shape of the data set's images; a decoder is trained once."""
    return noise.create(settings.noise, dataset, Path(settings.checkpoint_dir).expanduser(), settings.retrain, report)


def data_for_network(settings: NetworkSettings, report: Report) -> tuple[data.Dataset, Foreign | None]:
    """The data set; with --dataset=none one without images, and the user's own network that says their shape."""
    image_shape = getattr(settings, "image_shape", None)
    if settings.dataset != NO_DATA or not foreign.is_named(settings.model):
        dataset = load_classes(settings, report)
        if image_shape and image_shape != dataset.image_shape:
            given = f"image_shape is {','.join(map(str, image_shape))}, images of {dataset.name} {dataset.image_shape}"
            raise InputError(f"{given}: leave it out, or take --image_size; it goes with --dataset=none")
        return dataset, None
    own = load_own(settings)
    return without_data(own, image_shape, hasattr(settings, "image_shape")), own


def set_up(
    settings: NoiseSettings, report: Report, check: Callable[[data.Dataset, noise.Noise], Any] = lambda *of: None
) -> tuple[data.Dataset, noise.Noise, TrainedNetwork]:
    """Data set, noise and network; a name of no noise is refused before the training, and what `check` refuses."""
    dataset, own = data_for_network(settings, report)
    stimulus = create_noise(settings, dataset, report)
    check(dataset, stimulus)
    trained = of_own(settings, own, dataset) if own else trained_network(settings, dataset, report)
    return dataset, stimulus, trained


def loop_options(
    settings: Any, dataset: data.Dataset, network: Any, report: Report, part: str = "", **more: Any
) -> dict[str, Any]:
    """All arguments of `reverse_correlate` that `LoopSettings` decide, for a part of the job that keeps its own state.

    Its identity, which is what decides the sums besides these arguments, is that of noise, data and network, and more.
    """
    identity = {} if "noise" in more else {"noise": settings.noise}
    identity |= {"data": dataset.fingerprint} | ({"network": _identity(network)} if network else {}) | more
    return {
        "num_samples": settings.num_samples,
        "seed": settings.seed,
        "batch_size": settings.batch_size,
        **({"sampling": settings.sampling} if isinstance(settings, SamplingSettings) else {}),
        "state_dir": settings.folder / "state" / part,
        "identity": identity,
        "report": report,
    }


def _identity(network: Any) -> str:
    return network.fingerprint if isinstance(network, Network) else fingerprint(network)


def noisy_images(settings: Any, dataset: data.Dataset, images: np.ndarray, report: Report) -> np.ndarray:
    """(1 - w) s + w z for images s [n, H, W, C] in [0, 1], w the noise_weight and z the noise of the settings."""
    z = draw_samples(create_noise(settings, dataset, report), len(images), seed=settings.seed)
    return np.asarray(interventions.blend(jnp.asarray(images), jnp.asarray(z), jnp.float32(settings.noise_weight)))


def chosen_layers(
    asked: Sequence[str] | None,
    network: Any,
    usual: Sequence[str] = (),
    with_maps: bool = False,
    image_shape: tuple[int, int, int] | None = None,
) -> tuple[str, ...]:
    """The layers that were asked for, or all the usual ones.

    Raises:
        InputError: a layer that the network has not, or, `with_maps`, one without feature maps; or none is asked for,
            and there are no usual ones.
    """
    known = units.layer_names(network, image_shape)
    for name in asked or ():
        if name not in known:
            raise unknown_name("layer", name, known)
        if with_maps and name not in units.spatial_layers(network, image_shape):
            spatial = ", ".join(units.spatial_layers(network, image_shape)) or "none"
            raise InputError(f"layer {name} has no spatial positions: choose from those with feature maps, {spatial}")
    chosen = asked or usual
    if not chosen:
        way_out = "another --model" if with_maps else f"--layers from {', '.join(known)}"
        raise InputError(f"no layer of this network has feature maps: choose {way_out}")
    return tuple(dict.fromkeys(chosen))


def noise_examples(stimulus: noise.Noise, network: Any, dataset: data.Dataset, seed: int, title: str) -> Figure:
    """Ten samples of a noise under what a network calls them."""
    samples = np.asarray(draw_samples(stimulus, 10, seed=seed))
    answers = templates.feed_back(network, np.ma.masked_array(samples), stretch=False)
    captions = [answer.text(dataset.class_names) for answer in answers if answer]
    return figures.gallery(samples[None], [""], title, [captions])
