"""The doctor: what is wrong with a data set, before a training costs a night."""

from verydeep.data.doctor.diagnosis import Diagnosis as Diagnosis
from verydeep.data.doctor.diagnosis import examine as examine
from verydeep.data.doctor.diagnosis import examine_quickly as examine_quickly
