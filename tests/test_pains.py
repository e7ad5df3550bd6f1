"""What users of such tools suffer, each by its number, and the tests that keep it from happening here.

The numbers are those of our survey of threads in which users of other tools reported them; a few threads are cited with each. The table
names tests of this suite; each says in its docstring which pain it guards against. Those that concern every objective or every technique,
and had no test of their own, stand below the table.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import api
from burnish.data.batching import collate, cut_padded
from burnish.errors import RunError
from burnish.models import Model
from burnish.objectives import OBJECTIVES
from burnish.train import TaskLoss
from burnish.types import Batch, Sequence
from cli_runs import write_labelled
from loop import run, snapshot
from stub import make_stub
from test_every_objective import CASES

TESTS = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Pain:
    """What went wrong for users, where they told of it, and which tests (file::name) would notice it here."""

    what: str
    threads: str
    tests: tuple[str, ...]


PAINS: dict[str, Pain] = {
    "1": Pain(
        "training on nothing looks healthy: all labels masked, loss 0.0",
        "trl#6668, trl#3927, LLaMA-Factory#7263",
        (
            "test_pains.py::test_pain_1_a_step_that_learns_nothing_is_refused_whatever_the_objective",
            "test_checks.py::test_pain_1_rows_with_no_trained_token_are_an_error_with_their_line",
            "test_cli_bad_input.py::test_rows_that_train_on_nothing_are_refused_with_their_lines",
            "test_bad_input_objectives.py::test_a_head_with_one_class",
        ),
    ),
    "2": Pain(
        "the gradient is NaN and the run goes on for hours",
        "LLaMA-Factory#9462, ms-swift#2436, axolotl#1310",
        (
            "test_pains.py::test_pain_2_a_step_that_is_not_finite_is_refused_whatever_the_objective",
            "test_train.py::test_pain_2_a_step_that_is_not_finite_is_never_applied",
            "invariants/test_resume.py::test_a_weight_that_is_nan_stops_the_run_and_names_the_rows",
            "test_bad_input_objectives.py::test_a_reward_that_is_no_finite_number",
        ),
    ),
    "3": Pain(
        "the model is worse once merged or served",
        "LLaMA-Factory#10596, ms-swift#6267, ms-swift#7459",
        (
            "test_every_technique.py::test_pain_3_merged_equals_unmerged",
            "test_api.py::test_the_model_folder_opens_with_the_ecosystems_loaders_and_gives_the_same_logits",
            "test_bad_input_objectives.py::test_an_adapter_for_another_base",
            "test_serve.py::test_a_run_is_asked_in_the_form_in_which_it_was_taught",
            "test_export.py::test_a_merged_model_answers_as_the_run_does",
            "test_export.py::test_an_adapter_opens_with_peft_alone",
            "test_export.py::test_a_merge_that_changes_the_model_fails_and_leaves_nothing",
            "test_export_ollama.py::test_the_modelfile_carries_what_the_run_put_around_questions",
            "test_export_gguf.py::test_a_prompt_method_is_refused_before_anything_is_written",
        ),
    ),
    "4": Pain(
        "a GGUF file or an Ollama model gives gibberish",
        "unsloth#976, unsloth#3899, unsloth#4534, unsloth#7792",
        (
            "test_export_gguf.py::test_every_family_says_the_same_by_its_own_file_and_to_another_reader",
            "test_export_gguf.py::test_a_fault_in_writing_weights_is_seen",
            "test_export_gguf.py::test_every_kind_of_tokenizer_cuts_as_before",
            "test_export_gguf.py::test_a_tokenizer_that_is_read_otherwise_is_seen",
            "test_export_gguf.py::test_a_rule_that_llama_cpp_does_not_know_is_refused",
            "test_export_gguf.py::test_llama_cpp_itself_says_the_same",
            "test_export_ollama.py::test_the_template_of_each_family_is_written_byte_for_byte",
            "test_export_ollama.py::test_a_template_of_another_shape_is_refused_with_another_way",
            "test_export_ollama.py::test_go_itself_writes_the_same",
        ),
    ),
    "5": Pain(
        "merging QLoRA changes or loses the update",
        "peft#2321, peft#1043, ms-swift#5144",
        (
            "test_merge.py::test_a_quantised_base_is_merged_as_it_was_trained_on",
            "test_merge.py::test_an_update_that_rounding_would_swallow_is_refused_with_figures",
            "test_export_gguf.py::test_an_adapter_is_merged_on_the_way_and_its_update_measured",
            "test_export.py::test_fewer_bits_of_a_whole_model_are_told",
        ),
    ),
    "6": Pain(
        "the model never stops: the end of a turn is not learned",
        "trl#1623, unsloth#416, LLaMA-Factory#1115",
        (
            "test_render.py::test_pain_6_the_end_of_each_turn_is_learned",
            "test_checks.py::test_pain_6_a_learned_turn_without_its_end_is_an_error",
            "test_api.py::test_the_result_ends_its_turns_as_it_was_taught",
            "test_export_gguf.py::test_what_the_file_says_of_the_tokenizer",
        ),
    ),
    "7": Pain(
        "another chat template in training than in use",
        "trl#6361, unsloth#4158, OpenRLHF#1069",
        (
            "test_render.py::test_pain_7_the_prompt_at_inference_is_what_stood_before_the_answer",
            "test_api.py::test_a_model_is_asked_in_the_form_in_which_it_was_taught",
            "test_serve.py::test_a_run_is_asked_in_the_form_in_which_it_was_taught",
            "test_bad_input_objectives.py::test_a_template_whose_turns_cannot_be_found",
            "test_export.py::test_a_template_that_is_lost_on_the_way_fails",
            "test_export.py::test_vllm_gets_the_adapter_its_rank_and_the_template",
            "test_export_gguf.py::test_a_template_that_changes_on_the_way_is_seen",
        ),
    ),
    "8": Pain(
        "rows cut or dropped without a word",
        "trl PR#3449, ms-swift#2745, axolotl PR#452",
        (
            "test_checks.py::test_pain_8_rows_over_the_limit_are_always_counted_and_refused_above_one_percent",
            "test_cli_bad_input.py::test_a_few_rows_over_the_context_are_counted_and_many_are_refused",
            "test_preference.py::test_long_pairs_are_dropped_or_cut_as_pairs",
        ),
    ),
    "9": Pain(
        "evaluation shows a loss and no figure of the task",
        "LLaMA-Factory#9482, LLaMA-Factory#5266",
        (
            "test_every_objective_runs.py::test_a_run_of_it_finishes_with_a_report_of_a_score_that_fits",
            "test_report.py::test_table_fits_80_columns_and_needs_no_colour",
        ),
    ),
    "10": Pain(
        "no heads for classes, tags and rewards",
        "unsloth#5757, unsloth#372, unsloth PR#4264",
        (
            "test_pains.py::test_pain_10_a_head_and_a_written_label_are_measured_alike",
            "test_heads.py::test_a_saved_run_opens_with_its_class_and_the_same_scores",
            "test_heads.py::test_what_was_learned_gets_the_full_score",
            "test_serve_runs.py::test_a_head_answers_through_every_verb",
            "test_export.py::test_a_head_goes_to_onnx_and_says_the_same_there",
            "test_export.py::test_a_head_opens_with_its_class_of_the_ecosystem",
        ),
    ),
    "11": Pain(
        "tuning makes a model forget what it could",
        "LLaMA-Factory#2611, LLaMA-Factory#5898, litgpt#1517",
        (
            "test_forgetting.py::test_the_penalty_keeps_a_model_near_its_base",
            "test_forgetting.py::test_a_run_reports_it_whichever_way_its_base_is_kept",
        ),
    ),
    "12": Pain(
        "tuning adds no facts: retrieval should have been used",
        "axolotl#927, llama-cookbook#800, LLaMA-Factory#5863",
        (
            "test_pains.py::test_pain_12_where_a_passage_answers_better_than_the_tuned_model_the_verdict_says_so_first",
            "test_synthesize.py::test_every_row_is_traceable_to_a_passage_that_is_there",
            "test_synthesize.py::test_rows_are_read_as_what_they_are_and_never_divided_from_their_passage",
            "test_baseline.py::test_a_question_is_answered_near_its_words_or_as_rows_say_where_the_context_is_silent",
        ),
    ),
    "13": Pain(
        "a method of reinforcement learning is missing or rots",
        "LLaMA-Factory#7716, trl PR#7020",
        (
            "test_rollouts.py::test_a_rewarded_habit_grows",
            "test_rollouts.py::test_ppo_learns",
            "test_every_objective.py::test_equals_its_independent_reference",
        ),
    ),
    "15": Pain(
        "reinforcement learning collapses, exploits its reward, or learns from another policy than it samples",
        "open-instruct#1473, open-r1#587, verl#4818",
        (
            "test_rollouts.py::test_each_watchdog_barks_alone",
            "test_rollouts.py::test_streams_are_what_the_learner_says_and_groups_stay_together",
            "test_sampling.py::test_logprobs_are_the_models_own",
            "test_bad_input_objectives.py::test_a_reward_that_is_constant",
        ),
    ),
    "16": Pain(
        "a resumed run is not the one that was interrupted",
        "ms-swift#4505, LLaMA-Factory#512, unsloth#233",
        (
            "test_every_objective_runs.py::test_pain_16_stopped_and_taken_up_again_is_uninterrupted",
            "test_every_technique.py::test_a_checkpoint_puts_everything_back",
            "invariants/test_trajectories.py::test_pain_16_stopped_and_taken_up_again_is_uninterrupted",
        ),
    ),
    "17": Pain(
        "memory runs out late: on a long row, while evaluating, while saving",
        "axolotl#1813, unsloth#3435, LLaMA-Factory#3668",
        (
            "test_batching.py::test_the_largest_micro_batch_comes_first",
            "test_forward.py::test_no_logits_over_the_vocabulary_are_kept",
            "test_sampling.py::test_too_little_memory_halves_the_batch",
            "test_tune_memory.py::test_no_order_of_the_rows_makes_a_larger_micro_batch",
            "test_tune_memory.py::test_a_trial_changes_nothing_and_tells_both_figures",
            "test_tune_memory.py::test_a_run_that_does_not_fit_is_divided_and_says_so",
            "test_train_room.py::test_a_run_that_runs_out_of_memory_ends_where_it_would_have",
            "test_train_room.py::test_memory_that_really_runs_out_is_survived",
        ),
    ),
    "18": Pain(
        "nobody says before the start what a run will need",
        "axolotl#848",
        (
            "test_data_report.py::test_an_estimate_has_ranges_and_says_what_it_assumes",
            "test_every_technique.py::test_its_size_is_known_before_the_model_is_loaded",
            "test_tune_memory.py::test_free_memory_is_what_the_system_leaves",
        ),
    ),
    "20": Pain(
        "a closed browser or server kills training, or hides it",
        "LLaMA-Factory#8817, LLaMA-Factory#10111, text-generation-webui#5112",
        (
            "test_jobs.py::test_pain_20_killed_paused_and_resumed_a_job_ends_as_if_nothing_had_been",
            "test_jobs_run.py::test_pain_20_a_server_that_is_killed_and_started_again_ends_the_job",
            "test_jobs_run.py::test_pain_20_a_server_that_comes_later_finds_the_running_process_again",
        ),
    ),
    "21": Pain(
        "saving fails at the end and the run is lost",
        "axolotl#2548, LLaMA-Factory#5155",
        (
            "test_checkpoint.py::test_pain_21_death_at_any_call_of_a_save_keeps_the_last_good_checkpoint",
            "test_every_technique.py::test_what_is_saved_opens_with_the_ecosystems_loaders",
            "invariants/test_kill.py::test_a_disk_without_room_is_found_before_the_first_step",
            "test_export_hub.py::test_what_fails_on_the_way_leaves_no_half_export",
        ),
    ),
    "23": Pain(
        "a classifier of pictures fails without a word: pictures ignored, skipped, shown smaller or turned, and no figures by class",
        "ms-swift#3620, Qwen3-VL#1963, LLaMA-Factory#5538, LLaMA-Factory#7341",
        (
            "test_pictures.py::test_whatever_a_file_holds_becomes_eight_bit_rgb_the_right_way_up",
            "test_pictures.py::test_a_broken_gigantic_or_tiny_picture_names_row_and_file_all_at_once",
            "test_picture_models.py::test_a_run_on_pictures_from_random_weights_to_its_guards",
            "test_picture_models.py::test_a_model_that_ignores_its_pictures_is_told_first",
            "test_picture_models.py::test_what_is_lost_by_making_pictures_smaller_is_told",
            "test_picture_models.py::test_a_model_and_rows_that_do_not_fit_are_told_before_weights_are_read",
        ),
    ),
    "24": Pain(
        "an installation breaks",
        "unsloth#3081, axolotl#1355",
        ("test_cli.py::test_doctor_tells_what_a_bug_report_needs",),
    ),
    "25": Pain(
        "runs cannot be repeated; accumulating gradients changes the result",
        "LLaMA-Factory#5588, trl#2175, transformers#34191",
        (
            "test_every_objective.py::test_split_batch_equals_whole_batch",
            "test_every_technique.py::test_split_batch_equals_whole_batch",
            "invariants/test_trajectories.py::test_pain_25_ways_of_running_walk_the_same_path",
        ),
    ),
    "new tokens": Pain(
        "new tokens are not trained or not saved with LoRA",
        "LLaMA-Factory#7997, peft#2898",
        (
            "test_merge.py::test_new_terms_are_trained_and_saved",
            "test_export_gguf.py::test_added_terms_are_in_the_file",
            "test_export_gguf.py::test_tokens_without_a_vector_are_refused",
            "test_export.py::test_what_vllm_does_not_take_as_an_adapter_goes_whole",
        ),
    ),
    "mixing": Pain(
        "sets are neither mixed nor evaluated each by itself",
        "LLaMA-Factory#8814, LLaMA-Factory#6716",
        (
            "test_mixture.py::test_rows_of_a_source_are_seen_equally_often_over_any_run_of_epochs",
            "test_several_tasks.py::test_losses_dev_scores_and_the_report_are_told_per_task",
        ),
    ),
    "overlap": Pain(
        "the evaluation set overlaps the training set",
        "OpenRLHF#1089",
        (
            "test_split.py::test_overlap_names_both_origins_once_for_a_test_row",
            "test_samples.py::test_near_duplicates_stay_within_a_group",
        ),
    ),
    "evaluation set that is ignored": Pain(
        "an explicit evaluation set is ignored",
        "axolotl#2781",
        ("test_config_layers.py::test_an_evaluation_set_of_the_users_own_is_never_ignored",),
    ),
    "packing": Pain(
        "with packing the loss is 0",
        "axolotl#3453",
        ("test_every_objective.py::test_padded_equals_packed_and_shared",),
    ),
}
"""By number, and by name those that stand below the line of 25. What clusters (14, 19), browsers (20) and pictures in dialogs (22)
concern is no matter of objectives and techniques."""


@pytest.mark.parametrize("number", PAINS)
def test_each_pain_is_guarded_against_by_tests_that_name_it(number: str) -> None:
    """A test that is renamed, or no longer says what it is for, is missed here."""
    assert PAINS[number].tests
    named = rf"pains? .*\b{number}\b" if number.isdigit() else rf"below the line.*{number}|{number}.*below the line"
    for test in PAINS[number].tests:
        file, _, name = test.partition("::")
        found = {
            node.name: f"{node.name.replace('_', ' ')} {ast.get_docstring(node) or ''}"
            for node in ast.parse((TESTS / file).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        assert name in found, f"{test} is not there"
        assert re.search(named, " ".join(found[name].split()), flags=re.IGNORECASE), (
            f"{test} does not say that it is for pain {number}"
        )


# ------------------------------------------------------------------------------------------------------- whatever the objective


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Model, list[list[Sequence]]]]:
    """Return a function that gives a copy of an objective's model, all of it moving, and its rows."""
    models: dict[Any, Model] = {}

    def make(objective: str) -> tuple[Model, list[list[Sequence]]]:
        case = CASES[objective]
        if case.model not in models:
            models[case.model] = case.model(tmp_path_factory.mktemp("pains"))
        model = dataclasses.replace(models[case.model], network=copy.deepcopy(models[case.model].network))
        units = case.units(model)
        model.network.requires_grad_(True)
        return model, units

    return make


def batches_of(model: Model, units: list[list[Sequence]]) -> list[Batch]:
    return [
        collate(part, packing=False, pad_id=model.pad_id(), device="cpu", mask=model.encoder) for part in cut_padded(units, 128)
    ]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pain_1_a_step_that_learns_nothing_is_refused_whatever_the_objective(objective: str, made: Callable[..., Any]) -> None:
    """A loss of 0.0 that looks healthy is an error with the rows' places, and no weight has moved (pain 1)."""
    model, units = made(objective)
    for unit in units:
        for part in unit:
            part.weight_N[:] = 0.0
    before = snapshot(model)
    with pytest.raises(RunError, match=r"nothing in it is to be learned.*Rows in it: \w+\.(jsonl|txt):\d"):
        run(model, batches_of(model, units), tasks={"main": TaskLoss(OBJECTIVES[objective], CASES[objective].options)})
    assert all(torch.equal(before[name], value) for name, value in snapshot(model).items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pain_2_a_step_that_is_not_finite_is_refused_whatever_the_objective(objective: str, made: Callable[..., Any]) -> None:
    """No clip and no minimum hides a weight that is NaN behind a finite loss; nothing is applied (pain 2)."""
    model, units = made(objective)
    with torch.no_grad():
        model.plain().get_input_embeddings().weight[int(units[0][0].tokens_T[0])] = float("nan")
    before = snapshot(model)
    with pytest.raises(RunError, match=r"Step 1: the loss or its gradient is not finite.*Rows in it: \w+\.(jsonl|txt):\d"):
        run(model, batches_of(model, units), tasks={"main": TaskLoss(OBJECTIVES[objective], CASES[objective].options)})
    assert all(torch.equal(before[name].nan_to_num(7.0), value.nan_to_num(7.0)) for name, value in snapshot(model).items())


def test_pain_10_a_head_and_a_written_label_are_measured_alike(tmp_path: Path) -> None:
    """Two ways to the same labels, by one word in the run file: the same score on the same held-out rows, side by side."""
    make_stub(tmp_path / "stub")
    write_labelled(tmp_path / "rows.jsonl")
    found = {}
    for objective in ("classification", "sft"):
        run_file = {
            "model": str(tmp_path / "stub"),
            "output": str(tmp_path / objective),
            "objective": objective,
            "dtype": "float32",
            "threads": 1,
            "data": {"source": str(tmp_path / "rows.jsonl"), "test_share": 0.25, "dev_share": 0.0, "near_duplicates": False},
            "train": {"steps": 2, "batch": 4},
            "score": ["accuracy"],
            "evaluate": {"baseline": False, "forgetting": False, "max_tokens": 6},
            "log": {"tensorboard": False},
        }
        output = api.tune(run_file)
        answers = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
        report = json.loads((output / "report.json").read_text())
        found[objective] = {(one["origin"], json.dumps(one["expected"])) for one in answers}
        assert {"base", "tuned", "difference"} <= report["scores"]["accuracy"].keys()
    assert found["classification"] == found["sft"] and len(found["sft"]) > 5


# ------------------------------------------------------------------------------------------------------------------ facts of documents


@pytest.mark.parametrize("objective", ["sft", "qa"])
def test_pain_12_where_a_passage_answers_better_than_the_tuned_model_the_verdict_says_so_first(
    objective: str, tmp_path: Path
) -> None:
    """A fact that stands in a passage is found there by its words; a model that has not learned to read tells nothing (pain 12).

    Whoever tunes for facts is told, in the first sentence of the report, by how much looking them up is better, and on how many rows.
    """
    make_stub(tmp_path / "stub")
    rooms = ["oak", "elm", "ash", "fir", "yew", "box", "bay", "fig", "gum", "nut"]
    rows = []
    for number in range(40):
        room, code = f"{rooms[number % 10]}{number}", f"{7 * number + 1009}"
        context = f"This house has many rooms. The key of {room} is {code}. Nobody else has one."
        answers = {"text": [code], "answer_start": [context.index(code)]}
        rows.append(json.dumps({"question": f"Which is the key of {room}?", "context": context, "answers": answers}))
    (tmp_path / "facts.jsonl").write_text("\n".join(rows) + "\n")
    output = api.tune(
        {
            "model": str(tmp_path / "stub"),
            "output": str(tmp_path / "run"),
            "objective": objective,
            "dtype": "float32",
            "threads": 1,
            "data": {
                "source": str(tmp_path / "facts.jsonl"),
                "format": "squad",
                "test_share": 0.4,
                "dev_share": 0.0,
                "near_duplicates": False,
            },
            "train": {"steps": 3, "batch": 4},
            "score": ["token_f1"],
            "evaluate": {"forgetting": False, "max_tokens": 6},
            "log": {"tensorboard": False},
        }
    )
    report = json.loads((output / "report.json").read_text())
    row = report["scores"]["token_f1"]
    assert "context nearest to the question" in report["baseline"]["name"]
    assert row["baseline"]["mean"] > row["tuned"]["mean"] and row["n"] >= 12
    assert report["verdict"].startswith("A classical baseline does better: token_f1")
