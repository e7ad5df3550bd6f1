"""The public data sets of medicine, science, textbooks, vehicles and maintenance.

A literal part of the registry in `public_sets`; what the entries mean stands in `public_types`.
"""

from __future__ import annotations

from burnish.data.public_types import Part, PublicFile, PublicSet

SCIENCE: dict[str, PublicSet] = {
    "medquad": PublicSet(
        title="MedQuAD medical questions and answers",
        repository="abachaa/MedQuAD",
        commit="577bd37b96c02d1833b2c9eed2de9f96964e96cb",
        licence=("CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (LICENSE.txt and readme.txt of the repository)"),
        attribution=(
            'Ben Abacha and Demner-Fushman, "A Question-Entailment Approach to Question Answering", BMC Bioinformatics '
            "2019; texts from the NIH sites named in column url"
        ),
        files={
            "medquad.jsonl.xz": PublicFile("e6cb89aa9d7d751b58f849d400ee79470d7024ee555ff840e94bf12b30fe3954", 2867668, "*/*.xml"),
        },
        parts={
            "": Part(("medquad.jsonl.xz",), "question_answer", {"group": "file"}),
        },
    ),
    "mts_dialog": PublicSet(
        title="MTS-Dialog doctor-patient conversations",
        repository="abachaa/MTS-Dialog",
        commit="3ff0801933608d6f570468c13125125fb5cabdea",
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (LICENSE.txt and README of the repository)",
        attribution=(
            'Ben Abacha et al., "An Empirical Study of Clinical Note Generation from Doctor-Patient Encounters", EACL 2023'
        ),
        verbatim=True,
        files={
            "MTS-Dialog-TrainingSet.csv": PublicFile(
                "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc",
                1041071,
                "Main-Dataset/MTS-Dialog-TrainingSet.csv",
            ),
            "MTS-Dialog-ValidationSet.csv": PublicFile(
                "227206520c4534381c0d7fba6d3f09319a9af5a6d9603a93c0341af1198e3958",
                74054,
                "Main-Dataset/MTS-Dialog-ValidationSet.csv",
            ),
        },
        parts={
            "": Part(("MTS-Dialog-TrainingSet.csv",), "prompt_completion", {"prompt": "dialogue", "completion": "section_text"}),
            "validation": Part(
                ("MTS-Dialog-ValidationSet.csv",), "prompt_completion", {"prompt": "dialogue", "completion": "section_text"}
            ),
        },
    ),
    "pneumoniamnist": PublicSet(
        title="PneumoniaMNIST, chest X-rays of 28 x 28 pixels, training and validation part",
        repository="varun19424/pneumonia_mnist",
        commit="9361a718d67e8a40f1ef8929db8c5682add8bd70",
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (as MedMNIST publishes it; the mirror has no licence file)",
        attribution='Yang et al., "MedMNIST v2", Scientific Data 2023; pictures: Kermany et al., Cell 2018',
        files={
            "pneumoniamnist.npz": PublicFile(
                "8c66ae33ac66dd44e7908c94d29d9e897c900969b5cfb725af2b7f0441d45e46", 3101367, "data/pneumoniamnist.npz"
            ),
        },
        parts={
            "": Part(
                ("pneumoniamnist.npz",),
                "pictures",
                {},
                {"names": ["normal", "pneumonia"]},
                splits=("train",),
                faulty=frozenset({"222", "493", "1068", "1345", "1501", "2301", "2328", "2848", "2969", "3097"}),
                fault="the same picture stands in the validation part",
            ),
            "val": Part(("pneumoniamnist.npz",), "pictures", {}, {"names": ["normal", "pneumonia"]}, splits=("val",)),
        },
    ),
    "pubmedqa": PublicSet(
        title="PubMedQA, labelled",
        repository="pubmedqa/pubmedqa",
        commit="1cbae8e92f72f20c8d3747cbb3bf5bc53554d997",
        licence="MIT (LICENSE of the repository)",
        attribution='Jin et al., "PubMedQA: A Dataset for Biomedical Research Question Answering", EMNLP 2019',
        files={
            "ori_pqal.json": PublicFile(
                "b27e07a06dd929ec8deb25fbb6d7b09a90080f6db8a885b9e2f0416568b6d055", 1287431, "data/ori_pqal.json"
            ),
        },
        parts={
            "": Part(
                ("ori_pqal.json",), "question_answer", {"question": "QUESTION", "context": "CONTEXTS", "answer": "final_decision"}
            ),
            "long": Part(
                ("ori_pqal.json",), "question_answer", {"question": "QUESTION", "context": "CONTEXTS", "answer": "LONG_ANSWER"}
            ),
        },
    ),
    "covid_qa": PublicSet(
        title="COVID-QA questions on articles, and FAQ",
        repository="deepset-ai/COVID-QA",
        commit="fb2eb5e249618457e5359806601086c635c8eb8f",
        licence="Apache-2.0 (LICENSE of the repository)",
        attribution=(
            'Moeller et al., "COVID-QA: A Question Answering Dataset for COVID-19", 2020 (deepset); FAQ texts from the '
            "public pages named in column link"
        ),
        files={
            "200421_covidQA.json": PublicFile(
                "839a44529549a6c2fde1f174066ae09b4b5d25d38deb58a1ed970879472f3e57",
                2080212,
                "data/question-answering/200421_covidQA.json",
            ),
            "faq_covidbert.csv": PublicFile(
                "ba7e37cada23dc63fbdb7af7b0c9245773b65f3e3bb0d9fec45cc7bfa057b389", 377590, "data/faqs/faq_covidbert.csv"
            ),
        },
        parts={
            "": Part(
                ("200421_covidQA.json",),
                "squad",
                {},
                options={"repair": True},
                faulty=frozenset(
                    {
                        "question 1658",
                        "question 1659",
                        "question 3030",
                        "question 2134",
                        "question 2139",
                        "question 3272",
                        "question 1598",
                        "question 1600",
                        "question 1603",
                        "question 1629",
                        "question 3684",
                        "question 3683",
                        "question 3685",
                        "question 3463",
                        "question 3464",
                        "question 3465",
                        "question 3467",
                        "question 612",
                        "question 613",
                        "question 3626",
                        "question 3627",
                        "question 3632",
                        "question 3664",
                        "question 548",
                        "question 549",
                        "question 552",
                        "question 554",
                        "question 556",
                        "question 1059",
                    }
                ),
                fault="the answer stands nowhere, or at several places other than the given one",
            ),
            "faq": Part(("faq_covidbert.csv",), "question_answer", {}),
        },
    ),
    "ner_biomedical": PublicSet(
        title="NCBI Disease and BC5CDR in IOB form",
        repository="cambridgeltl/MTL-Bioinformatics-2016",
        commit="df0df02fae6dbb87d88ffcf323b9096528f06f84",
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ (LICENSE.md of the repository)",
        attribution=(
            'Crichton et al., "A neural network multi-task learning approach to biomedical named entity recognition", '
            "2017; corpora: Dogan et al. 2014 (NCBI Disease), Li et al. 2016 (BioCreative V CDR)"
        ),
        verbatim=True,
        files={
            "NCBI-disease-IOB/train.tsv": PublicFile(
                "58379baf4614b8d757d93dd7a21b202849ca99f9b9d71b49185523ff5443300c", 1137445, "data/NCBI-disease-IOB/train.tsv"
            ),
            "NCBI-disease-IOB/devel.tsv": PublicFile(
                "b4e1e7efcc2a35047bf2f3d281648357470e674f555d4a26a0049ac37d59cc61", 200352, "data/NCBI-disease-IOB/devel.tsv"
            ),
            "BC5CDR-IOB/train.tsv": PublicFile(
                "b731361c0ed73afd04cc5fdad39afcdfd8f325d6e46c282339185a91d1af4c14", 1039940, "data/BC5CDR-IOB/train.tsv"
            ),
            "BC5CDR-IOB/devel.tsv": PublicFile(
                "b909de65c4f7e3c23bb09ad52d654cdc92e96db941abe1a5dcf6f6010c03cff5", 1031781, "data/BC5CDR-IOB/devel.tsv"
            ),
        },
        parts={
            "": Part(("NCBI-disease-IOB/train.tsv",), "spans", {}),
            "ncbi_devel": Part(("NCBI-disease-IOB/devel.tsv",), "spans", {}),
            "bc5cdr": Part(("BC5CDR-IOB/train.tsv",), "spans", {}),
            "bc5cdr_devel": Part(("BC5CDR-IOB/devel.tsv",), "spans", {}),
        },
    ),
    "openstax": PublicSet(
        title="OpenStax textbooks and exercises",
        repository="openstax",
        commit="",
        licence=(
            "Creative Commons Attribution 4.0 International (CC BY 4.0), https://creativecommons.org/licenses/by/4.0/, "
            "as stated in the repositories at those commits."
        ),
        attribution=(
            "OpenStax, Rice University. Access for free at openstax.org. Titles and authors: "
            "collections/*.collection.xml of each repository."
        ),
        files={
            "textbooks.jsonl.xz": PublicFile(
                "5d86e1c3218e27810d6807568093441db18478280b498d6f8da8bf668fe938af", 11520672, "modules/*/index.cnxml"
            ),
            "exercises.jsonl.xz": PublicFile(
                "ab9f80a9fa78a95796d78b4ce9d9cc29352973d5ae5473f97faf45cbd5f206f7", 1063140, "modules/*/index.cnxml"
            ),
        },
        parts={
            "": Part(("textbooks.jsonl.xz",), "text", {"text": "text", "group": "module"}),
            "exercises": Part(("exercises.jsonl.xz",), "question_answer", {"group": "module"}),
        },
    ),
    "obd_trouble_codes": PublicSet(
        title="OBD-II trouble codes",
        repository="mytrile/obd-trouble-codes",
        commit="24e3ca8b9e66ab9c5e3d171bf8480e4509c38563",
        licence="MIT (LICENSE of the repository)",
        attribution="Dimitar Kostov, obd-trouble-codes",
        files={
            "obd-trouble-codes.csv": PublicFile(
                "3612fd053c7af9670371bfc3284265b6932f89ca4bf40e4f881a5b80497c2107", 151274, "obd-trouble-codes.csv"
            ),
        },
        parts={
            "": Part(("obd-trouble-codes.csv",), "prompt_completion", {"prompt": "column_1", "completion": "column_2"}),
        },
    ),
    "automotive_qa_apqc": PublicSet(
        title="APQ-C Automotive questions and answers",
        repository="Tapetrova/hybrid_RAG",
        commit="b1756bb620bd56d59187e3ba6d4562aa1c334caf",
        licence=("CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/ (dataset_creation/README.md of the repository)"),
        attribution=(
            "Motor Vehicle Maintenance & Repair Stack Exchange (https://mechanics.stackexchange.com) and its "
            "contributors; collected by Tapetrova/hybrid_RAG"
        ),
        files={
            "apqc_auto.json": PublicFile(
                "3bd3deb8e6d891ea880b819b45b7ea67ed7ece44bd3da77dbdad6c0af19bc831", 1177974, "dataset_creation/data/apqc_auto.json"
            ),
        },
        parts={
            "": Part(("apqc_auto.json",), "question_answer", {}),
        },
    ),
    "maintie": PublicSet(
        title="MaintIE maintenance work orders, gold part",
        repository="nlp-tlp/maintie",
        commit="825e7710e4129598da997276a38b3cb40b200bc2",
        licence="MIT (LICENSE.md of the repository; its year and name fields are not filled in)",
        attribution=(
            'Bikaun et al., "MaintIE: A Fine-Grained Annotation Schema and Benchmark for Information Extraction from '
            'Maintenance Short Texts", 2024'
        ),
        files={
            "gold_release.json": PublicFile(
                "8ff2631ed5d7fc4ffb35f8b655febdca08acb5dd952a2a032d3fcf65287707f9", 604658, "data/gold_release.json"
            ),
            "scheme.json": PublicFile(
                "0352bd240953829105d3017caf72dbf008e9c2ceee201add1ade22d818b582c0", 134144, "data/scheme.json"
            ),
        },
        parts={
            "": Part(("gold_release.json",), "spans", {}),
        },
    ),
}
