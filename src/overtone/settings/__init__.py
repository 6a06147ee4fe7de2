"""`params.yaml` -> frozen, strict, typed settings. Nothing else reads that file."""

from overtone.settings.base import ParamsError, Settings
from overtone.settings.corpus import SPLITS, Assign, CorpusParams
from overtone.settings.degradations import (
    BitErrors,
    Clip,
    Codec,
    Condition,
    DegradeParams,
    Filter,
    NarrowBand,
    Noise,
    PacketLoss,
    Quantise,
    Resample,
    Step,
)
from overtone.settings.evaluation import EvaluateParams, Guard, RegisterParams
from overtone.settings.loading import changed, edited, flatten, load
from overtone.settings.schema import Params
from overtone.settings.training import (
    FAMILIES,
    Bodies,
    CnnParams,
    ExtendTraining,
    FitParams,
    Mixing,
    Ranges,
    RestoreTraining,
    RnnParams,
    TrainParams,
)
from overtone.settings.tuning import Choice, Dimension, RealRange, WholeRange

__all__ = [
    "FAMILIES",
    "SPLITS",
    "Assign",
    "BitErrors",
    "Bodies",
    "Choice",
    "Clip",
    "CnnParams",
    "Codec",
    "Condition",
    "CorpusParams",
    "DegradeParams",
    "Dimension",
    "EvaluateParams",
    "ExtendTraining",
    "Filter",
    "FitParams",
    "Guard",
    "Mixing",
    "NarrowBand",
    "Noise",
    "PacketLoss",
    "Params",
    "ParamsError",
    "Quantise",
    "Ranges",
    "RealRange",
    "RegisterParams",
    "Resample",
    "RestoreTraining",
    "RnnParams",
    "Settings",
    "Step",
    "TrainParams",
    "WholeRange",
    "changed",
    "edited",
    "flatten",
    "load",
]
