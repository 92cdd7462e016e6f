"""The family's class: its data side and its model side, which know nothing of each other."""

from include.families.compliance_qa.data_part import DataPart
from include.families.compliance_qa.model_part import ModelPart


class ComplianceQA(DataPart, ModelPart):
    """Answers questions about rules with the passages that decide them."""
