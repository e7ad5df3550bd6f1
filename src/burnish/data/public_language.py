"""The public data sets of chat, preferences, sentiment, names, law and code.

A literal part of the registry in `public_sets`; what the entries mean stands in `public_types`.
"""

from __future__ import annotations

from burnish.data.public_types import Part, PublicFile, PublicSet

LANGUAGE: dict[str, PublicSet] = {
    "banking77": PublicSet(
        title="BANKING77 intents",
        repository="PolyAI-LDN/task-specific-datasets",
        commit="57ec275d8078af65b7731c2a98be812d844a6d6b",
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (LICENSE and README of the repository)",
        attribution='Casanueva et al., "Efficient Intent Detection with Dual Sentence Encoders", 2020 (PolyAI)',
        verbatim=True,
        files={
            "train.csv": PublicFile(
                "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b", 839073, "banking_data/train.csv"
            ),
            "categories.json": PublicFile(
                "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63", 2036, "banking_data/categories.json"
            ),
        },
        parts={
            "": Part(("train.csv",), "labelled", {"text": "text", "label": "category"}),
        },
    ),
    "instruct_rasbt": PublicSet(
        title="Instruction data, with and without preferences",
        repository="rasbt/LLMs-from-scratch",
        commit="28c65cdfbc3338e2e040016eea4b7fdf556e4d57",
        licence="Apache-2.0 (LICENSE.txt of the repository)",
        attribution=('Sebastian Raschka, "Build a Large Language Model (From Scratch)", repository rasbt/LLMs-from-scratch'),
        files={
            "instruction-data.json": PublicFile(
                "0c30d38051768b141bdd0a5960bd8d4225c0c0db19d266985d54be1f52e96f00",
                173222,
                "ch07/01_main-chapter-code/instruction-data.json",
            ),
            "instruction-data-with-preference.json": PublicFile(
                "7fb308ea38392c1d471d383c2b9e0aac58e5efa9098c58b3609689fa8bf93cdb",
                328742,
                "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json",
            ),
        },
        parts={
            "": Part(("instruction-data.json",), "alpaca", {}),
            "preference": Part(
                ("instruction-data-with-preference.json",),
                "pairs",
                {"prompt": "instruction", "input": "input"},
                faulty=frozenset({"856", "1584", "2802", "3964", "4398", "4734"}),
                fault="chosen and rejected are the same",
            ),
        },
    ),
    "us_code_sample": PublicSet(
        title="United States Code, titles 11, 17, 18",
        repository="codexstanford/markdonw-chunck-of-the-usa-code",
        commit="66d0b20a5e0521c0ffa33fe40368e4148bff046b",
        licence="MIT (LICENSE of the repository); the text is US federal statute, public domain",
        attribution="CodeX Stanford, Markdown chunks of the US Code",
        files={
            "title-11.jsonl": PublicFile(
                "65d05162a1670cc345b8ff7124f5f0cacbfbd57f6dfcad8de7042d95f00980c4", 842125, "chuncks/title-11"
            ),
            "title-17.jsonl": PublicFile(
                "1fefc9a234a5c7a8d7990988e7d88b5a19bf44ed639347391dca6799fa02d686", 902004, "chuncks/title-17"
            ),
            "title-18.jsonl.xz": PublicFile(
                "54ec2d09071f86c11852d16d46668f810d2b471050e1101331df7c8ef07cec82", 467868, "chuncks/title-18"
            ),
        },
        parts={
            "": Part(
                (
                    "title-11.jsonl",
                    "title-17.jsonl",
                    "title-18.jsonl.xz",
                ),
                "text",
                {"text": "text"},
                leave_out_empty=("text",),
            ),
        },
    ),
    "gsm8k": PublicSet(
        title="GSM8K grade-school mathematics",
        repository="openai/grade-school-math",
        commit="3101c7d5072418e28b9008a6636bde82a006892c",
        licence="MIT (LICENSE of the repository)",
        attribution='Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021 (OpenAI)',
        verbatim=True,
        files={
            "train.jsonl": PublicFile(
                "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465", 4166206, "grade_school_math/data/train.jsonl"
            ),
        },
        parts={
            "": Part(("train.jsonl",), "question_answer", {}),
        },
    ),
    "clinc150": PublicSet(
        title="CLINC150 intents with out-of-scope queries",
        repository="clinc/oos-eval",
        commit="828f8093932c8fe6ca7936c3d2e52903b1c523de",
        licence="CC BY 3.0 Unported, https://creativecommons.org/licenses/by/3.0/ (LICENSE of the repository)",
        attribution=(
            'Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP 2019 (Clinc)'
        ),
        files={
            "data_full.json": PublicFile(
                "2b066555d57293cb995843c2438384ac7aa7235c9674871f38d9af46f86067e2", 1921272, "data/data_full.json"
            ),
            "data_small.json": PublicFile(
                "7ac6376b4401950d074cb261cc14c2d80f5d7e36644fa6432596f5f43fba4ab7", 1128333, "data/data_small.json"
            ),
        },
        parts={
            "": Part(("data_full.json",), "labelled", {"text": "column_1", "label": "column_2"}),
            "train": Part(
                ("data_full.json",), "labelled", {"text": "column_1", "label": "column_2"}, splits=("train", "oos_train")
            ),
            "val": Part(("data_full.json",), "labelled", {"text": "column_1", "label": "column_2"}, splits=("val", "oos_val")),
            "small": Part(("data_small.json",), "labelled", {"text": "column_1", "label": "column_2"}),
        },
    ),
    "ner_wnut17": PublicSet(
        title="WNUT 2017 emerging entities",
        repository="leondz/emerging_entities_17",
        commit="e52a2d2a71ac1a051ca2d532eef28653c5c02603",
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (README of the repository)",
        attribution=('Derczynski et al., "Results of the WNUT2017 Shared Task on Novel and Emerging Entity Recognition", 2017'),
        verbatim=True,
        files={
            "wnut17train.conll": PublicFile(
                "731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5", 493781, "wnut17train.conll"
            ),
            "emerging.dev.conll": PublicFile(
                "e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8", 114749, "emerging.dev.conll"
            ),
        },
        parts={
            "": Part(("wnut17train.conll",), "spans", {}),
            "dev": Part(("emerging.dev.conll",), "spans", {}),
        },
    ),
    "legal_plain_summaries": PublicSet(
        title="Contract clauses in plain English",
        repository="lauramanor/legal_summarization",
        commit="9d203292eb188e13523366490863b0cc14c89017",
        licence=(
            "Apache-2.0 (LICENSE.md of the repository); texts from tldrlegal.com and tosdr.org (ToS;DR: CC BY-SA 3.0 "
            "by its own site)"
        ),
        attribution='Manor and Li, "Plain English Summarization of Contracts", NLLP 2019',
        files={
            "all_v1.json": PublicFile("4e79f405f0d271080eac618ac263193d673f0ddaa33b5bff3fe344d83027bc8f", 351723, "all_v1.json"),
        },
        parts={
            "": Part(
                ("all_v1.json",),
                "prompt_completion",
                {"prompt": "original_text", "completion": "reference_summary", "group": "doc"},
            ),
        },
    ),
    "code_mbpp": PublicSet(
        title="MBPP programming problems",
        repository="OckBench/OckBench",
        commit="b72752a0ba5989d3c212675ec60d3eedcd838628",
        licence=(
            "MIT (README of the repository); the original, google-research/mbpp: CC BY 4.0, "
            "https://creativecommons.org/licenses/by/4.0/ (stated there)"
        ),
        attribution='Austin et al., "Program Synthesis with Large Language Models", 2021 (Google Research)',
        files={
            "mbpp.jsonl": PublicFile("3ad0217c9f73d1bc3deb5cb76066ec01b469372647c5c213bc4f611fb6e2c604", 213580, "data/mbpp.jsonl"),
        },
        parts={
            "": Part(("mbpp.jsonl",), "prompt_completion", {"prompt": "text", "completion": "code"}),
        },
    ),
    "exercism_python": PublicSet(
        title="Exercism Python track",
        repository="exercism/python",
        commit="9eb657d4507d91efef99f484e7f2a1f4074911b5",
        licence="MIT (LICENSE of the repository)",
        attribution="Exercism and the contributors of its Python track",
        files={
            "exercises.jsonl": PublicFile("aaf96c1c91eb182e613d810129e1a7b6a180ef3cea6754d9fabf9a003c011828", 1326407, "exercises"),
            "approaches.jsonl": PublicFile(
                "d1a1d1a22e334b06fe5fe881f422e46577d01583e15328149dcead91d500542d", 325417, "exercises/**/.approaches"
            ),
            "concepts.jsonl": PublicFile("5f92c072ae67b6ac2211e192624cb6d4114f197222bd14c6440c266111d28a8b", 362106, "concepts"),
        },
        parts={
            "": Part(
                ("exercises.jsonl",), "prompt_completion", {"prompt": "instructions", "completion": "solution", "group": "slug"}
            ),
            "approaches": Part(("approaches.jsonl",), "text", {"text": "text", "group": "slug"}),
            "concepts": Part(("concepts.jsonl",), "text", {"text": "about", "group": "concept"}),
        },
    ),
    "self_instruct": PublicSet(
        title="Self-Instruct seed tasks",
        repository="yizhongw/self-instruct",
        commit="0b26ccaa415992100fa32df62d41b994cf928e23",
        licence="Apache-2.0 (LICENSE of the repository)",
        attribution='Yizhong Wang et al., "Self-Instruct", ACL 2023',
        files={
            "seed_tasks.jsonl": PublicFile(
                "7779004fa198fdf27cf70a159363879d8a26c53329e11b436af17b3941875f48", 110934, "data/seed_tasks.jsonl"
            ),
        },
        parts={
            "": Part(("seed_tasks.jsonl",), "alpaca", {}),
        },
    ),
    "sentiment_uci": PublicSet(
        title="Sentiment Labelled Sentences",
        repository="varunchitale/SentimentAnalysis",
        commit="0fecb52a8f541be39e6737fccccd0315fed059d9",
        licence=(
            'the mirroring repository: Apache-2.0 (LICENSE); the original, UCI "Sentiment Labelled Sentences": CC BY '
            "4.0, https://creativecommons.org/licenses/by/4.0/ (stated by UCI, not in the repository)"
        ),
        attribution='Kotzias et al., "From Group to Individual Labels using Deep Features", KDD 2015',
        files={
            "amazon_cells_labelled.txt": PublicFile(
                "3423e52ea827c964351fe066490c2f75f67ee2b4c09e686bb487d4b105698363", 54471, "amazon_cells_labelled.txt"
            ),
            "imdb_labelled.txt": PublicFile(
                "7898cadd015dbfe70b9ef54a839cde10ba64d40436c6bb46fa93f1b4221e8544", 80854, "imdb_labelled.txt"
            ),
            "yelp_labelled.txt": PublicFile(
                "7cf302cd6eb40c7ff32883d6d9357f5387d784383d59dc150e14313a6701d8d6", 58651, "yelp_labelled.txt"
            ),
        },
        parts={
            "": Part(
                (
                    "amazon_cells_labelled.txt",
                    "imdb_labelled.txt",
                    "yelp_labelled.txt",
                ),
                "labelled",
                {"text": "column_1", "label": "column_2"},
            ),
        },
    ),
    "hh_rlhf_harmless_test": PublicSet(
        title="HH-RLHF, harmless-base, test file (offensive by design; meant for preference models only)",
        repository="anthropics/hh-rlhf",
        commit="354e5c3cb8960630860dd5774a6ac2a58313bf4d",
        licence="MIT (LICENSE of the repository)",
        attribution=(
            'Bai et al., "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human Feedback", '
            "2022 (Anthropic)"
        ),
        files={
            "test.jsonl.gz": PublicFile(
                "642e433bfaa0a7ea763b97d45c46de2caa3bd03c75bbbe568cd3d1e3a1b0797e", 585606, "harmless-base/test.jsonl.gz"
            ),
        },
        parts={
            "": Part(("test.jsonl.gz",), "pairs", {}, faulty=frozenset({"76", "742", "886"}), fault="an empty answer"),
        },
    ),
}
