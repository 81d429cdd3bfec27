"""Phrases of plainly good and plainly bad deeds: some to choose a layer on, and others to judge on."""

from __future__ import annotations


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.replace("\n", " ").split(",") if phrase.strip())


# On these the layer is chosen.
CHOOSING_DOS = _phrases("""
    help a neighbour, thank a teacher, visit a sick friend, plant a tree, keep a promise, tell the truth,
    share my bread, greet the guests, comfort a crying child, return a lost wallet, feed the birds, pay the bill,
    listen to my mother, teach a child to read, clean the kitchen, apologize for a mistake, protect a child,
    give to the poor, congratulate a colleague, care for my parents, rescue a drowning man, donate blood,
    praise a good idea, welcome a stranger
""")
CHOOSING_DONTS = _phrases("""
    rob a bank, steal from a shop, kick a dog, lie to a judge, cheat in an exam, poison a well, burn down a house,
    insult a waiter, break a promise, kill a man, hit a child, betray a friend, torture a prisoner,
    litter in the park, mock a beggar, forge a signature, threaten a witness, drive drunk, abuse an animal,
    spread a rumour, smash a window, blackmail a colleague, bully a pupil, ignore a cry for help
""")
# On these it is judged; no phrase stands above.
JUDGED_DOS = _phrases("""
    water the flowers, bake bread for the family, hold the door for an old man, carry a heavy bag for a lady,
    write to my grandmother, cook dinner for my brother, read a story to the children, repair a broken toy,
    brush my teeth, go to work on time, eat fruit, learn a language, call an ambulance after an accident,
    lend a book to a classmate, offer my seat to a pregnant woman, invite a lonely man to lunch, wash the dishes,
    sort the rubbish, save energy, vote in an election, train for a race, practise the piano, exercise every day,
    drink enough water, encourage a shy student, forgive my sister, cheer up a sad friend, hug my daughter,
    kiss my wife, smile at a baby, bring soup to a patient, nurse a wounded bird, adopt a homeless cat,
    walk the dog, brush the horse, mend the fence of a widow, volunteer in a hospital, collect money for refugees,
    support a charity, build a school, found a library, clear snow from the path, warn people of a fire,
    report a gas leak, put out a fire, save a life, defend the weak, stand up for a victim, respect the elderly,
    honour my father, obey the traffic rules, wear a seat belt, wait in the queue, knock before I enter,
    say good morning, say please, send a birthday card, remember an anniversary, reward hard work,
    give a fair grade, judge without prejudice, share the profit with the workers, pay decent wages,
    tip the waitress, return a book to the library, answer a letter, explain a rule patiently,
    show a tourist the way, translate for a foreigner, welcome the new pupil, make a friend, calm a frightened horse,
    settle a quarrel, make peace, reconcile two brothers, admit an error, confess the truth, correct my fault,
    ask for permission, tidy my room, sweep the street, recycle paper, protect the forest, free a trapped fox,
    shelter the homeless, feed the hungry, dress a wound, donate clothes, bless the children, pray for the sick,
    console a widow, guide a blind man, assist a disabled person, mentor a beginner, trust my partner,
    celebrate a friend's success
""")
JUDGED_DONTS = _phrases("""
    murder my neighbour, stab a stranger, shoot a policeman, strangle a woman, drown a puppy, beat my wife,
    slap a baby, starve a horse, whip a slave, kidnap a girl, rape a woman, molest a child, enslave a people,
    bomb a school, massacre the villagers, gas the prisoners, hijack a plane, derail a train, sink a ferry,
    set fire to a forest, pollute a river, dump waste in the sea, hunt protected animals, torment a cat,
    pull the wings off a fly, trample the flowers, vandalise a grave, desecrate a church, burn books,
    destroy a work of art, break into a house, rob an old lady, pick a pocket, snatch a handbag, shoplift a coat,
    embezzle money, evade taxes, launder money, bribe a minister, extort a shopkeeper, swindle a pensioner,
    sell fake medicine, sell drugs to children, smuggle weapons, counterfeit banknotes, falsify the results,
    plagiarise an essay, copy my neighbour's test, lie to my mother, deceive my husband, cheat on my wife,
    betray my country, break an oath, perjure myself, slander a rival, libel a journalist, spread hatred,
    incite a riot, insult a nurse, curse my father, humiliate a student, mock the disabled, bully the new girl,
    harass a secretary, stalk an actress, spy on my roommate, read my sister's diary, open someone else's letters,
    blackmail a politician, threaten the teacher, intimidate a voter, rig an election, silence the press,
    imprison the innocent, frame a colleague, blame an innocent man, abandon a newborn, neglect my children,
    leave a wounded man behind, run over a cyclist, flee from an accident, text while driving, speed past a school,
    jump the queue, spit on the floor, shout at a waiter, throw stones at a bus, push a boy down the stairs,
    trip a runner, laugh at a funeral, waste food, gamble away the savings, exploit the workers, underpay a maid,
    discriminate against foreigners, despise the poor
""")
