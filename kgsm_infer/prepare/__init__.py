"""Prepare inputs: backscatter with its incidence angle, vegetation and daily images."""

#: Rooms that compute prepared files (:mod:`kgsm_infer.base.fingerprint`).
CODE = ("kgsm_infer.base", "kgsm_infer.tables", "kgsm_infer.scenes", "kgsm_infer.prepare")
