"""The family's class: its tables, whose source is declared in family.yaml, and its model side."""

from include.families.declared_data import DeclaredData
from include.families.demand_forecasting import schema
from include.families.demand_forecasting.model_part import ModelPart


class DemandForecasting(DeclaredData, ModelPart):
    """Hours of bicycle rentals."""

    SCHEMAS = schema.SCHEMAS
