"""The words that the readers know: units of measure and money, what Chinese counts with, words that multiply, names of months and bases.

Why a file of its own: these lists are what grows, and none of it is logic.
"""

# Measures in all their spellings, the one that stands for the others first. Short ones count as written, words in any case and number.
_MEASURES = """
m meter metre 米 | cm centimeter centimetre 厘米 | mm millimeter millimetre 毫米 | km kilometer kilometre 千米 公里 | dm decimeter 分米
in inch inches | ft foot feet | yd yard | mi mile | nm nanometer | μm micrometer micron | ha hectare | acre
g gram gm 克 | kg kilogram kilo 千克 公斤 | mg milligram | t ton tonne 吨 | lb lbs pound | oz ounce
s sec second 秒 | min minute 分钟 | h hr hour 小时 | day 天 日 | week wk 周 星期 | month 月 个月 | year yr 年 | ms millisecond
L l liter litre 升 | mL ml milliliter millilitre 毫升 | gal gallon | qt quart | pt pint | cc
N newton | J joule | kJ kilojoule | W watt | kW kilowatt | MW megawatt | V volt | A ampere amp | Ω ohm | Hz hertz | Pa pascal | kPa
C °C celsius centigrade | F °F fahrenheit | K kelvin | ° degree deg 度 | rad radian | mol mole | M molar | eV
B byte | kB kilobyte | MB megabyte | GB gigabyte
$ dollar USD buck | € euro EUR | £ GBP sterling | ¥ yen yuan JPY CNY RMB 元 圆 | ₹ rupee INR Rs | cent | ₩ won | ₽ ruble | ₫ | ฿ | ₪ | ₺
"""
_CHINESE_COUNTERS = "个 只 人 名 位 本 支 张 条 块 辆 棵 颗 套 件 种 次 倍 页 头 匹 朵 袋 盒 箱 瓶 杯 双 对 座 根 枚 台 间 组 岁 角 步 层"

# Beside these a number is not the whole answer.
_NOT_COUNTED = """
and or not no nor to plus minus over remainder mod half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths
seventh sevenths eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths is are was if for where when with
any all real only except either neither between under above below least most than dozen score pair base choose factorial
sin cos tan cot sec csc log exp sqrt pi infinity
"""
_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min gcd lcm det mod deg dim ker sqrt frac"
_MONTHS = "january february march april may june july august september october november december"
_BASES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"

MEASURES = {name: line.split()[0] for line in _MEASURES.replace("\n", "|").split("|") for name in line.split()}
COMPOUNDS = {"mph": ("mi", "/h"), "kph": ("km", "/h"), "kmh": ("km", "/h"), "kmph": ("km", "/h")}
POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}  # before the unit
RAISED = {"squared": "2", "cubed": "3"}  # behind it
CHINESE_COUNTERS = frozenset(_CHINESE_COUNTERS.split())
MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "百": 2, "千": 3, "万": 4, "亿": 8}  # powers of ten
NOT_COUNTED = frozenset(_NOT_COUNTED.split())
CONNECTING = frozenset(("of", "the", "a", "an", "in", "total", "each", "unit", "units", "point", "points", "integer", "integers"))
ORDINALS = frozenset(("st", "nd", "rd", "th"))
FUNCTIONS = frozenset(_FUNCTIONS.split())
MONTHS = tuple(_MONTHS.split())
BASES = {name: base for base, name in enumerate(_BASES.split(), 2)}
